"""A projection and the GEGLU of its result."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from swiftdiffusion_operators.geglu import geglu


@torch.library.custom_op("swiftdiffusion::geglu_linear", mutates_args=())
def geglu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GEGLU(x · weightᵀ + bias) (arXiv 2002.05202, eq. 6).

    Args:
        x: [..., k].
        weight: [2 n, k]: rows for values, then rows for gates.
        bias: [2 n].

    Returns:
        [..., n].
    """
    return geglu(functional.linear(x, weight, bias))


@geglu_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0] // 2))
