"""LayerNorm on a GPU: one pass, each row held in registers.

A row is held in pieces, since SDXL's widths are five times powers of two: a block of the next power of two would idle
three lanes of eight. A program is one warp, so that the sums need neither shared memory nor a barrier.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIECE = 256  # elements of a row that the warp loads at once: eight a lane, 16 bytes in half precision
ROWS = 2  # a program's; they share what it reads of the shift, the weight and the bias


@triton.jit
def normalise(
    x, shift, weight, bias, y, rows, eps,
    WIDTH: tl.constexpr, PIECE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """ROWS rows of [rows, WIDTH]; the mean and then the variance about it, in fp32."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    place = tl.arange(0, PIECE)[None, :]
    total = tl.zeros((ROWS, PIECE), tl.float32)
    pieces, weights, biases = tl.tuple(()), tl.tuple(()), tl.tuple(())
    for start in tl.static_range(0, WIDTH, PIECE):
        column = start + place
        piece = tl.load(x + row * WIDTH + column, mask=(row < rows) & (column < WIDTH), other=0.0).to(tl.float32)
        piece += tl.load(shift + column, mask=column < WIDTH, other=0.0).to(tl.float32)
        total += piece
        pieces += (piece,)
        # on their way while the row is added up: another step's, they lie in no cache
        weights += (tl.load(weight + column, mask=column < WIDTH, other=0.0),)
        biases += (tl.load(bias + column, mask=column < WIDTH, other=0.0),)
    mean = tl.sum(total, axis=1)[:, None] / WIDTH
    squares = tl.zeros((ROWS, PIECE), tl.float32)
    for start in tl.static_range(0, WIDTH, PIECE):
        away = tl.where(start + place < WIDTH, pieces[start // PIECE] - mean, 0.0)
        squares += away * away
    scale = 1.0 / tl.sqrt(tl.sum(squares, axis=1)[:, None] / WIDTH + eps)
    for start in tl.static_range(0, WIDTH, PIECE):
        column = start + place
        value = (pieces[start // PIECE] - mean) * scale
        value = value * weights[start // PIECE].to(tl.float32) + biases[start // PIECE].to(tl.float32)
        tl.store(y + row * WIDTH + column, value.to(y.dtype.element_ty), mask=(row < rows) & (column < WIDTH))


def run(x: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The operator on tensors; as `swiftdiffusion_operators.layer_norm`."""
    x, width = x.contiguous(), weight.numel()
    y, rows = torch.empty_like(x), x.numel() // width
    normalise[(triton.cdiv(rows, ROWS),)](
        x, shift, weight, bias, y, rows, eps, WIDTH=width, PIECE=PIECE, ROWS=ROWS, num_warps=1
    )
    return y
