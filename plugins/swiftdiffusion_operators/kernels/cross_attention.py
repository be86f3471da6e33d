"""Attention to a prompt on a GPU: all keys and values of a head lie in one tile, so that one pass is enough."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 64  # queries that one program answers
MOST_KEYS = 256  # one program holds them all


def fits(keys: int, width: int) -> bool:
    """Whether the kernel takes so many keys and heads so wide."""
    return keys <= MOST_KEYS and width in (16, 32, 64, 128)


@triton.jit
def attend(
    q, k, v, y, queries, keys, row_stride, key_stride, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """softmax(q kᵀ · scale) v for ROWS queries of one head; q, y [batch, queries, HEADS WIDTH], k, v with `keys`."""
    block, head, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = block * ROWS + tl.arange(0, ROWS)
    key = tl.arange(0, KEYS)
    feature = head * WIDTH + tl.arange(0, WIDTH)
    at_q = (sample * queries + row).to(tl.int64)[:, None] * row_stride + feature[None, :]
    at_k = (sample * keys + key)[:, None] * key_stride + feature[None, :]
    there = (key < keys)[:, None]
    # all three at once, so that their loads are on the way together
    keyed = tl.load(k + at_k, mask=there, other=0.0)
    values = tl.load(v + at_k, mask=there, other=0.0)
    query = tl.load(q + at_q, mask=(row < queries)[:, None], other=0.0)
    # of fp32 operands no TF32 is made
    scores = tl.dot(query, tl.trans(keyed), input_precision="ieee")
    scores *= scale * 1.4426950408889634
    scores = tl.where((key < keys)[None, :], scores, float("-inf"))
    scores = tl.exp2(scores - tl.max(scores, axis=1)[:, None])
    total = tl.sum(scores, axis=1)
    mixed = tl.dot(scores.to(query.dtype), values, input_precision="ieee") / total[:, None]
    at_y = (sample * queries + row).to(tl.int64)[:, None] * (HEADS * WIDTH) + feature[None, :]
    tl.store(y + at_y, mixed.to(y.dtype.element_ty), mask=(row < queries)[:, None])


def run(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """q [batch, queries, heads · width]; k, v [batch, keys, heads · width], rows of any one stride."""
    batch, queries, wide = q.shape
    keys, width = k.shape[1], wide // heads
    y = torch.empty_like(q)
    attend[(triton.cdiv(queries, ROWS), heads, batch)](
        q, k, v, y, queries, keys, q.stride(1), k.stride(1), width**-0.5,
        HEADS=heads, WIDTH=width, ROWS=ROWS, KEYS=max(16, triton.next_power_of_2(keys)),
    )  # fmt: skip
    return y
