"""Residual addition and LayerNorm on a GPU: one pass, each row held in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # elements that one program holds


@triton.jit
def add_and_normalise(
    x, residual, stand_in, weight, bias, total, y, rows, lacking, eps,
    WIDTH: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr, ADDS: tl.constexpr, LACKS: tl.constexpr,
):  # fmt: skip
    """ROWS rows of [rows, WIDTH]; the mean and then the variance about it, in fp32, of the rounded sum.

    x has all but the first `lacking` rows, which are like `stand_in`.
    """
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    there = (row < rows)[:, None] & (column < WIDTH)[None, :]
    at = row[:, None] * WIDTH + column[None, :]
    if LACKS:
        held = (row >= lacking)[:, None]
        value = tl.load(x + at - lacking.to(tl.int64) * WIDTH, mask=there & held, other=0.0)
        instead = tl.load(stand_in + column, mask=column < WIDTH, other=0.0)
        value = tl.where(held, value, instead[None, :])
    else:
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
    rows: int, width: int, eps: float, stand_in: Tensor | None = None, lacking: int = 0,
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
        stand_in: [width], what the rows are like that `x` lacks.
        lacking: how many those are, the first of all.
    """
    columns = triton.next_power_of_2(width)
    held = max(1, min(triton.next_power_of_2(rows), TILE // columns))
    add_and_normalise[(triton.cdiv(rows, held),)](
        x, x if residual is None else residual, x if stand_in is None else stand_in,
        weight, bias, total, y, rows, lacking, eps,
        WIDTH=width, COLUMNS=columns, ROWS=held, ADDS=residual is not None, LACKS=lacking > 0,
    )  # fmt: skip


def run(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, stand_in: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`swiftdiffusion_operators.add_layer_norm` on tensors; without a residual the sum is `x` itself."""
    x = x.contiguous()
    total, lacking, width = x, 0, x.shape[-1]
    if residual is not None:
        residual, total = residual.contiguous(), torch.empty_like(residual)
        lacking = (residual.numel() - x.numel()) // width
    y = torch.empty_like(total)
    launch(x, residual, weight, bias, total, y, total.numel() // width, width, eps, stand_in, lacking)
    return total, y
