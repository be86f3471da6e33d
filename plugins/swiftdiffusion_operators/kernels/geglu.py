"""GEGLU on a GPU: one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048


@triton.jit
def gate(x, y, width, TILE: tl.constexpr):
    """One tile of one row: x is [rows, 2 width], y [rows, width]."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    there = column < width
    value = tl.load(x + row * 2 * width + column, mask=there, other=0.0).to(tl.float32)
    gates = tl.load(x + row * 2 * width + width + column, mask=there, other=0.0).to(tl.float32)
    gated = value * gates * 0.5 * (1.0 + tl.math.erf(gates * 0.7071067811865476))
    tl.store(y + row * width + column, gated.to(y.dtype.element_ty), mask=there)


def launch(x: Tensor, y: Tensor, rows: int, width: int) -> None:
    """Enqueue on torch's current stream.

    Args:
        x: [rows, 2 width], anything with ``data_ptr()`` and ``dtype``; so `y`.
        y: [rows, width].
        rows: how many.
        width: of the result.
    """
    tile = min(TILE, triton.next_power_of_2(width))
    gate[(rows, triton.cdiv(width, tile))](x, y, width, TILE=tile)


def run(x: Tensor) -> Tensor:
    """The operator on tensors; as `swiftdiffusion_operators.geglu`."""
    x = x.contiguous()
    width = x.shape[-1] // 2
    y = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
    launch(x, y, y.numel() // width, width)
    return y
