"""Attention to a prompt on a GPU: all keys and values of a head lie in one program, so that one pass is enough.

They lie in two tiles, for tiles are powers of two long and prompts have 77 tokens: 64 and 16 take what 128 would, less
two fifths.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 64  # queries that one program answers
FEWEST_KEYS, MOST_KEYS = 17, 256  # two tiles of the shortest kind, and what one program holds


def fits(keys: int, width: int) -> bool:
    """Whether the kernel takes so many keys and heads so wide."""
    return FEWEST_KEYS <= keys <= MOST_KEYS and width in (16, 32, 64, 128)


def split(keys: int) -> tuple[int, int]:
    """How long the two tiles of keys are: the longest power of two that they fill, and one for the rest."""
    full = triton.next_power_of_2(keys) // 2
    return full, max(16, triton.next_power_of_2(keys - full))


@triton.jit
def attend(
    q, k, v, y, queries, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, KEYS: tl.constexpr, KEY_STRIDE: tl.constexpr,
    ROWS: tl.constexpr, FULL: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """softmax(q kᵀ · scale) v for ROWS queries of one head; q, y [batch, queries, HEADS WIDTH], k, v with KEYS."""
    block, head, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    first = (sample * queries + block * ROWS).to(tl.int64) * (HEADS * WIDTH) + head * WIDTH
    first_key = sample.to(tl.int64) * (KEYS * KEY_STRIDE) + head * WIDTH
    row, feature = tl.arange(0, ROWS)[:, None], tl.arange(0, WIDTH)[None, :]
    key, late = tl.arange(0, FULL)[:, None], FULL + tl.arange(0, REST)
    there, asked = (late < KEYS)[:, None], block * ROWS + row < queries
    # all at once, so that their loads are on the way together
    keyed = tl.load(k + first_key + key * KEY_STRIDE + feature)
    values = tl.load(v + first_key + key * KEY_STRIDE + feature)
    late_keyed = tl.load(k + first_key + late[:, None] * KEY_STRIDE + feature, mask=there, other=0.0)
    late_values = tl.load(v + first_key + late[:, None] * KEY_STRIDE + feature, mask=there, other=0.0)
    query = tl.load(q + first + row * (HEADS * WIDTH) + feature, mask=asked, other=0.0)
    # of fp32 operands no TF32 is made
    scores = tl.dot(query, tl.trans(keyed), input_precision="ieee")
    late_scores = tl.dot(query, tl.trans(late_keyed), input_precision="ieee")
    late_scores = tl.where((late < KEYS)[None, :], late_scores, float("-inf"))
    # a thread folds its own columns first, so that threads exchange once for both tiles
    highest = tl.max(tl.reshape(scores, (ROWS, FULL // REST, REST)), axis=1)
    scale *= 1.4426950408889634  # of powers of two
    highest = (tl.max(tl.maximum(highest, late_scores), axis=1) * scale)[:, None]
    scores = tl.exp2(scores * scale - highest)
    late_scores = tl.exp2(late_scores * scale - highest)
    total = tl.sum(tl.sum(tl.reshape(scores, (ROWS, FULL // REST, REST)), axis=1) + late_scores, axis=1)
    mixed = tl.dot(scores.to(query.dtype), values, input_precision="ieee")
    mixed = tl.dot(late_scores.to(query.dtype), late_values, mixed, input_precision="ieee")
    mixed *= (1.0 / total)[:, None]
    tl.store(y + first + row * (HEADS * WIDTH) + feature, mixed.to(y.dtype.element_ty), mask=asked)


def run(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """q [batch, queries, heads · width]; k, v [batch, keys, heads · width], rows of any one stride."""
    batch, queries, wide = q.shape
    keys = k.shape[1]
    full, rest = split(keys)
    y = torch.empty_like(q)
    attend[(triton.cdiv(queries, ROWS), heads, batch)](
        q, k, v, y, queries, (wide // heads) ** -0.5,
        HEADS=heads, WIDTH=wide // heads, KEYS=keys, KEY_STRIDE=k.stride(1), ROWS=ROWS, FULL=full, REST=rest,
    )  # fmt: skip
    return y
