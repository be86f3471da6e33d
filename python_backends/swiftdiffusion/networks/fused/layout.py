"""Channels-last pictures as rows of channels; no copies."""

from __future__ import annotations

from torch import Tensor


def to_pixels(x: Tensor) -> Tensor:
    """[batch, c, h, w] in channels-last format as [batch, h, w, c]."""
    return x.permute(0, 2, 3, 1)


def from_pixels(x: Tensor) -> Tensor:
    """[batch, h, w, c] as [batch, c, h, w] in channels-last format."""
    return x.permute(0, 3, 1, 2)
