"""Several weights as parts of one, so that one product serves all; each stays live under its own name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def merge(weights: Sequence[nn.Parameter]) -> Tensor:
    """Move the weights [rows, ...] into one tensor [all rows, ...], of which they become views."""
    merged = torch.cat([weight.data for weight in weights])
    for weight, part in zip(weights, merged.split([weight.shape[0] for weight in weights]), strict=True):
        weight.data = part
    return merged
