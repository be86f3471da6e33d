"""Residual addition and LayerNorm on a GPU: one pass, each row held in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # elements that one program holds


@triton.jit
def add_and_normalise(
    x, residual, weight, bias, total, y, rows, eps,
    WIDTH: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr, ADDS: tl.constexpr,
):  # fmt: skip
    """ROWS rows of [rows, WIDTH]; the mean and then the variance about it, in fp32, of the rounded sum."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    there = (row < rows)[:, None] & (column < WIDTH)[None, :]
    at = row[:, None] * WIDTH + column[None, :]
    value = tl.load(x + at, mask=there, other=0.0)
    if ADDS:
        value = (value.to(tl.float32) + tl.load(residual + at, mask=there, other=0.0).to(tl.float32)).to(value.dtype)
        tl.store(total + at, value, mask=there)
    value = value.to(tl.float32)
    mean = tl.sum(value, axis=1) / WIDTH
    value = tl.where(there, value - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(value * value, axis=1) / WIDTH + eps)
    value *= scale[:, None] * tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    value += tl.load(bias + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    tl.store(y + at, value.to(y.dtype.element_ty), mask=there)


def launch(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, total: Tensor, y: Tensor,
    rows: int, width: int, eps: float,
) -> None:  # fmt: skip
    """Enqueue on torch's current stream.

    Args:
        x: [rows, width], anything with ``data_ptr()`` and ``dtype``; so the other tensors.
        residual: as `x`, or None for a plain LayerNorm.
        weight: [width].
        bias: [width].
        total: where the sum goes; not written without a residual.
        y: where the normalised sum goes.
        rows: how many.
        width: at most 65,536.
        eps: added to the variance.
    """
    columns = triton.next_power_of_2(width)
    held = max(1, min(triton.next_power_of_2(rows), TILE // columns))
    add_and_normalise[(triton.cdiv(rows, held),)](
        x, x if residual is None else residual, weight, bias, total, y, rows, eps,
        WIDTH=width, COLUMNS=columns, ROWS=held, ADDS=residual is not None,
    )  # fmt: skip


def run(x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`swiftdiffusion_operators.add_layer_norm` on tensors; without a residual the sum is `x` itself."""
    x = x.contiguous()
    total, y = x, torch.empty_like(x)
    if residual is not None:
        residual, total = residual.contiguous(), torch.empty_like(x)
    launch(x, residual, weight, bias, total, y, x.numel() // x.shape[-1], x.shape[-1], eps)
    return total, y
