"""A linear layer with GEGLU in its epilogue, on GPUs that copy tiles by themselves (from Hopper's TMA on).

A tile of values and the tile of their gates are one product of twice the width, since a GPU's matrix units want wide
ones; the weight is read as [2, n, k]. The tile is small enough for two programs on a multiprocessor: one multiplies
while the other gates and writes.

On Hopper itself `geglu_linear_hopper` runs instead.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from swiftdiffusion_operators.kernels.geglu import gelu

ROWS, COLUMNS, DEPTH = 128, 64, 64  # of the result's tiles, and of one step along the features
TILES_DOWN = 16  # so many tiles below one another run together and share weights in the cache
WARPS, STAGES = 4, 3
ALIGNED = 16  # bytes, of rows that tiles are copied from


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel takes them: on this GPU, in half precision, with rows that start where copies can."""
    widths = (weight.shape[1], weight.shape[0] // 2)
    aligned = all(width * x.itemsize % ALIGNED == 0 for width in widths) and weight.is_contiguous()
    return aligned and x.itemsize == 2 and torch.cuda.get_device_capability(x.device) >= (9, 0)


@triton.jit
def find_tile(number, down, across, TILES_DOWN: tl.constexpr):
    """The row and the column of a tile of down x across, in bands of TILES_DOWN rows."""
    band = number // (TILES_DOWN * across) * TILES_DOWN
    high = tl.minimum(down - band, TILES_DOWN)
    place = number % (TILES_DOWN * across)
    return band + place % high, place // high


@triton.jit
def project_and_gate(
    x, weight, bias, y, rows, width, depth,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, TILES_DOWN: tl.constexpr,
):  # fmt: skip
    """One tile: x [rows, depth], weight [2, width, depth] and y [rows, width] by descriptors; bias [2 width]."""
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(width, COLUMNS)
    tile_row, tile_column = find_tile(tl.program_id(0), down, across, TILES_DOWN)
    row, column = tile_row * ROWS, tile_column * COLUMNS
    product = tl.zeros((ROWS, 2 * COLUMNS), tl.float32)
    for k in range(0, depth, DEPTH):
        part = weight.load([0, column, k]).reshape(2 * COLUMNS, DEPTH)
        product = tl.dot(x.load([row, k]), part.T, product)
    values, gates = product.reshape(ROWS, 2, COLUMNS).permute(0, 2, 1).split()
    feature = column + tl.arange(0, COLUMNS)
    there = feature < width
    values += tl.load(bias + feature, mask=there, other=0.0).to(tl.float32)[None, :]
    gates += tl.load(bias + width + feature, mask=there, other=0.0).to(tl.float32)[None, :]
    y.store([row, column], (values * gelu(gates)).to(y.dtype))


def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The operator on tensors that `fits`; as `swiftdiffusion_operators.geglu_linear`."""
    depth, width = weight.shape[1], weight.shape[0] // 2
    y = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
    inputs, outputs = x.contiguous().view(-1, depth), y.view(-1, width)
    rows = inputs.shape[0]
    project_and_gate[(triton.cdiv(rows, ROWS) * triton.cdiv(width, COLUMNS),)](
        TensorDescriptor.from_tensor(inputs, [ROWS, DEPTH]),
        TensorDescriptor.from_tensor(weight.view(2, width, depth), [2, COLUMNS, DEPTH]),
        bias,
        TensorDescriptor.from_tensor(outputs, [ROWS, COLUMNS]),
        rows, width, depth, ROWS=ROWS, COLUMNS=COLUMNS, DEPTH=DEPTH, TILES_DOWN=TILES_DOWN,
        num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    return y
