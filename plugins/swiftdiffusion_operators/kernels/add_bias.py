"""A bias and, where there is one, a residual, added on a GPU in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096


@triton.jit
def add(x, bias, residual, y, elements, CHANNELS: tl.constexpr, TILE: tl.constexpr, ADDS: tl.constexpr):
    """y = x + bias + residual over [pixels, CHANNELS]."""
    start = tl.program_id(0).to(tl.int64) * TILE
    at = start + tl.arange(0, TILE)
    there = at < elements
    channel = ((start % CHANNELS).to(tl.int32) + tl.arange(0, TILE)) % CHANNELS  # 64-bit remainders are slow
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    value += tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    if ADDS:
        value += tl.load(residual + at, mask=there, other=0.0).to(tl.float32)
    tl.store(y + at, value.to(y.dtype.element_ty), mask=there)


def run(x: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
    """x [..., channels], bias [channels], residual as x or None; returns as x."""
    x = x.contiguous()
    y = torch.empty_like(x)
    adds = residual is not None
    add[(triton.cdiv(x.numel(), TILE),)](
        x, bias, residual.contiguous() if residual is not None else x, y, x.numel(),
        CHANNELS=bias.numel(), TILE=TILE, ADDS=adds,
    )  # fmt: skip
    return y
