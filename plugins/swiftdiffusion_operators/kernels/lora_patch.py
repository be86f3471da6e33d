"""LoRAs into weights on a GPU: one launch for all weights, from tables of addresses that lie on the device.

A weight is a matrix of [out, the rest in the order of its memory], cut into tiles. Three tables say what to do:

    tiles  int32 [tiles, 3]    the layer, and which block of its rows and of its columns
    layers int64 [layers, 9]   addresses, row strides (elements) and sizes of live and pristine weight, its terms
    terms  int64 [terms, 5]    addresses and row strides (elements) of the factors, and the rank, 0 for a full matrix
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl


@dataclass(frozen=True)
class Tiling:
    """What one program does: a tile, how much of a rank in one product, with so many warps and loads ahead.

    The patch waits for memory: what counts is how many tiles an SM holds at a time, so registers are scarce (80 of
    them a thread as it is, three programs an SM on a GPU of compute capability 9.0).
    """

    rows: int = 64
    columns: int = 128
    depth: int = 32
    warps: int = 8
    stages: int = 2


TILING = Tiling()


@triton.jit
def patch_tile(
    tiles, layers, terms, scales,
    WEIGHT: tl.constexpr, FACTOR: tl.constexpr, ALIGNED: tl.constexpr, CHANGES: tl.constexpr, FULL: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """live = gain · pristine + Σ scale · up · down for one tile."""
    tile = tiles + tl.program_id(0).to(tl.int64) * 3
    layer = layers + tl.load(tile).to(tl.int64) * 9
    first_row, first_column = tl.load(tile + 1) * ROWS, tl.load(tile + 2) * COLUMNS
    # within a tile 32 bits are enough, which halves the registers that addresses take
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    in_rows = (row < tl.load(layer + 4).to(tl.int32) - first_row)[:, None]
    in_columns = (column < _align(tl.load(layer + 5), ALIGNED) - first_column)[None, :]

    stride = _align(tl.load(layer + 3), ALIGNED)
    pristine = _point(tl.load(layer + 2), first_row * stride.to(tl.int64), WEIGHT, ALIGNED) + first_column
    # read once: the factors, which the neighbours read too, shall stay in the L2 cache
    weight = tl.load(
        pristine + (row[:, None] * stride + column[None, :]),
        mask=in_rows & in_columns, other=0.0, eviction_policy="evict_first",
    )  # fmt: skip

    if CHANGES:
        # in units of the last term's scale: one set of sums is all that the registers must hold
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        unit = 1.0
        first = tl.load(layer + 7)
        for index in range(first, first + tl.load(layer + 8)):
            term = terms + index * 5
            rank = tl.load(term + 4).to(tl.int32)
            scale = tl.load(scales + index)
            total *= unit / scale
            unit = scale
            down_stride = _align(tl.load(term + 3), ALIGNED)
            if FULL and rank == 0:
                down = _point(tl.load(term + 2), first_row * down_stride.to(tl.int64), FACTOR, ALIGNED) + first_column
                at = row[:, None] * down_stride + column[None, :]
                total += tl.load(down + at, mask=in_rows & in_columns, other=0.0).to(tl.float32)
            width = tl.cdiv(rank, 8) * 8  # of the up factor, which has zeros beyond the rank
            up_stride = _align(tl.load(term + 1), ALIGNED)
            up = _point(tl.load(term), first_row * up_stride.to(tl.int64), FACTOR, ALIGNED)
            for start in range(0, rank, DEPTH):
                down = _point(tl.load(term + 2), start * down_stride.to(tl.int64), FACTOR, ALIGNED) + first_column
                depth = tl.arange(0, DEPTH)
                left = tl.load(
                    up + start + (row[:, None] * up_stride + depth[None, :]),
                    mask=in_rows & (depth < width - start)[None, :], other=0.0,
                )  # fmt: skip
                right = tl.load(
                    down + (depth[:, None] * down_stride + column[None, :]),
                    mask=(depth < rank - start)[:, None] & in_columns, other=0.0,
                )  # fmt: skip
                total = tl.dot(left, right, total, input_precision="tf32x3")
        gain = tl.load(layer + 6).to(tl.pointer_type(tl.float32))
        gains = tl.load(gain + first_row + row[:, None], mask=in_rows & (tl.load(layer + 6) != 0), other=1.0)
        weight = (weight.to(tl.float32) * gains + total * unit).to(WEIGHT)

    stride = _align(tl.load(layer + 1), ALIGNED)
    live = _point(tl.load(layer), first_row * stride.to(tl.int64), WEIGHT, ALIGNED) + first_column
    tl.store(live + (row[:, None] * stride + column[None, :]), weight, mask=in_rows & in_columns)


# What a table holds the compiler cannot know: where it is told, it moves 16 bytes at a time.
@triton.jit
def _point(address, offset, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    pointer = address.to(tl.pointer_type(TYPE))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer + offset


@triton.jit
def _align(elements, ALIGNED: tl.constexpr):
    elements = elements.to(tl.int32)
    if ALIGNED:
        elements = elements // 8 * 8  # a hint on what was loaded does not outlive the compiler's passes
    return elements
