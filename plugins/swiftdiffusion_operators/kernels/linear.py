"""Products with what follows them, on a GPU: bias, residual, GEGLU, in the product's epilogue.

Tiles are walked in groups of rows so that neighbouring programs share operands in the L2 cache.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def multiply(
    x, weight, bias, residual, y, M, N, K,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, EXTRA: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    ADDS: tl.constexpr,
):  # fmt: skip
    """A tile [ROWS, COLUMNS + EXTRA] of y = x · weightᵀ + bias + residual; EXTRA makes widths between powers of two."""
    WIDE: tl.constexpr = COLUMNS + EXTRA
    tile = tl.program_id(0)
    down, across = tl.cdiv(M, ROWS), tl.cdiv(N, WIDE)
    band = tile // (GROUP * across)
    height = tl.minimum(down - band * GROUP, GROUP)
    row = (band * GROUP + (tile % (GROUP * across)) % height) * ROWS + tl.arange(0, ROWS)
    first = ((tile % (GROUP * across)) // height) * WIDE
    column = first + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    at_x = x + (row % M).to(tl.int64)[:, None] * K + depth[None, :]
    at_w = weight + (column % N).to(tl.int64)[None, :] * K + depth[:, None]
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    if EXTRA:
        extra = first + COLUMNS + tl.arange(0, EXTRA)
        at_e = weight + (extra % N).to(tl.int64)[None, :] * K + depth[:, None]
        extras = tl.zeros((ROWS, EXTRA), tl.float32)
    for k in range(0, K, DEPTH):
        left = depth < K - k
        a = tl.load(at_x, mask=left[None, :], other=0.0)
        sums = tl.dot(a, tl.load(at_w, mask=left[:, None], other=0.0), sums)
        if EXTRA:
            extras = tl.dot(a, tl.load(at_e, mask=left[:, None], other=0.0), extras)
            at_e += DEPTH
        at_x += DEPTH
        at_w += DEPTH
    _finish(sums, bias, residual, y, row, column, M, N, ADDS)
    if EXTRA:
        _finish(extras, bias, residual, y, row, extra, M, N, ADDS)


@triton.jit
def _finish(sums, bias, residual, y, row, column, M, N, ADDS: tl.constexpr):
    there = (row < M)[:, None] & (column < N)[None, :]
    at = row.to(tl.int64)[:, None] * N + column[None, :]
    sums += tl.load(bias + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    if ADDS:
        sums += tl.load(residual + at, mask=there, other=0.0).to(tl.float32)
    tl.store(y + at, sums.to(y.dtype.element_ty), mask=there)


@triton.jit
def multiply_and_gate(
    x, weight, bias, y, M, N, K,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """A tile [ROWS, COLUMNS] of GEGLU(x · weightᵀ + bias): the weight's first N rows give values, its last N gates."""
    tile = tl.program_id(0)
    down, across = tl.cdiv(M, ROWS), tl.cdiv(N, COLUMNS)
    band = tile // (GROUP * across)
    height = tl.minimum(down - band * GROUP, GROUP)
    row = (band * GROUP + (tile % (GROUP * across)) % height) * ROWS + tl.arange(0, ROWS)
    column = ((tile % (GROUP * across)) // height) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    at_x = x + (row % M).to(tl.int64)[:, None] * K + depth[None, :]
    at_v = weight + (column % N).to(tl.int64)[None, :] * K + depth[:, None]
    at_g = at_v + N.to(tl.int64) * K
    values = tl.zeros((ROWS, COLUMNS), tl.float32)
    gates = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(0, K, DEPTH):
        left = depth < K - k
        a = tl.load(at_x, mask=left[None, :], other=0.0)
        values = tl.dot(a, tl.load(at_v, mask=left[:, None], other=0.0), values)
        gates = tl.dot(a, tl.load(at_g, mask=left[:, None], other=0.0), gates)
        at_x += DEPTH
        at_v += DEPTH
        at_g += DEPTH
    values += tl.load(bias + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    gates += tl.load(bias + N + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    values *= gates * 0.5 * (1.0 + tl.math.erf(gates * 0.7071067811865476))
    there = (row < M)[:, None] & (column < N)[None, :]
    tl.store(y + row.to(tl.int64)[:, None] * N + column[None, :], values.to(y.dtype.element_ty), mask=there)
