"""Self-attention with heads 64 wide for Hopper's GPUs, as FlashAttention-3 does it (arXiv 2407.08608), in Gluon.

One program stays on each multiprocessor and takes tiles of up to 192 queries of a head. One warp fetches queries, keys
and values, some steps ahead; three groups of four warps attend with 64 queries each. A group starts the scores of the
next keys, then the product of the last weights and values, and computes the next weights meanwhile; and while it
exponentiates, the others multiply: they take turns at the matrix units, which are as busy as the exponentials' unit.

2 samples of 20 heads of 1,024 queries take 28 µs, cuDNN's attention 34; of 10 heads of 4,096 both take 185 µs (fp16,
NVIDIA H200, 2026-11-23).
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from swiftdiffusion_operators.kernels.attention_tiles import (
    GROUPS,
    HEAD_BITS,
    START_BITS,
    UNIT,
    UNITS_BITS,
    can_name,
    deal_tiles,
    write_table,
)
from swiftdiffusion_operators.kernels.hopper import GROUP_WARPS, is_hopper

WIDTH = 64  # of a head
KEYS = 128  # of one step
STAGES = 4  # steps whose keys and values lie in shared memory
REGISTERS, GROUP_REGISTERS, FETCH_REGISTERS = 128, 160, 24  # a thread, at the start and then in each kind of warp

# Powers of two of $1 * $2 - $3. "Not pure", or the compiler moves them to where no product runs beside them.
POWERS = gl.constexpr("{ .reg .f32 p; fma.rn.ftz.f32 p, $1, $2, $3; ex2.approx.ftz.f32 $0, p; }")


def fits(qkv: Tensor, heads: int) -> bool:
    """Whether the kernel takes them: half precision on a Hopper GPU, and what its table can name."""
    samples, tokens, width = qkv.shape
    named = can_name(samples, heads, -(-tokens // UNIT))
    return named and width == 3 * heads * WIDTH and qkv.itemsize == 2 and is_hopper(qkv.device)


@gluon.jit
def name_tile(word, START_BITS: gl.constexpr, UNITS_BITS: gl.constexpr, HEAD_BITS: gl.constexpr):
    """A tile's start, units, head and sample, as `Tile.pack` wrote them."""
    units = word >> START_BITS
    head = units >> UNITS_BITS
    return (
        word & ((1 << START_BITS) - 1),
        units & ((1 << UNITS_BITS) - 1),
        head & ((1 << HEAD_BITS) - 1),
        head >> HEAD_BITS,
    )


@gluon.jit
def fetch(
    one, some, table, queries, keys, values, query_ready, query_free, key_ready, key_free, value_ready, value_free,
    tokens, heads, START_BITS: gl.constexpr, UNITS_BITS: gl.constexpr, HEAD_BITS: gl.constexpr,
):  # fmt: skip
    """One warp: each tile's queries once, and the keys and values of each step, as soon as there is room."""
    GROUPS: gl.constexpr = queries.shape[0]
    UNIT: gl.constexpr = queries.shape[2]
    STAGES: gl.constexpr = keys.shape[0]
    KEYS: gl.constexpr = keys.shape[2]
    WIDTH: gl.constexpr = keys.shape[3]
    ITEM: gl.constexpr = one.dtype.primitive_bitwidth // 8
    steps = gl.cdiv(tokens, KEYS)
    first, end = gl.load(table + gl.program_id(0)), gl.load(table + gl.program_id(0) + 1)
    turn = 0
    for place in range(first, end):
        start, _, head, sample = name_tile(gl.load(table + place), START_BITS, UNITS_BITS, HEAD_BITS)
        for step in range(0, steps):
            at = (steps - 1 - step) * KEYS  # the last keys, perhaps not so many, come first
            stage, parity = turn % STAGES, (turn // STAGES & 1) ^ 1  # the first round finds all of them free
            mbarrier.wait(key_free.index(stage), parity)
            ready = key_ready.index(stage)
            mbarrier.expect(ready, KEYS * WIDTH * ITEM)
            tma.async_copy_global_to_shared(some, [sample, at, (heads + head) * WIDTH], ready, keys.index(stage))
            if step == 0:
                for group in gl.static_range(GROUPS):  # also of units that the tile has not, so that all count alike
                    mbarrier.wait(query_free.index(group), (place - first & 1) ^ 1)
                    ready = query_ready.index(group)
                    mbarrier.expect(ready, UNIT * WIDTH * ITEM)
                    at_query = [sample, (start + group) * UNIT, head * WIDTH]
                    tma.async_copy_global_to_shared(one, at_query, ready, queries.index(group))
            mbarrier.wait(value_free.index(stage), parity)
            ready = value_ready.index(stage)
            mbarrier.expect(ready, KEYS * WIDTH * ITEM)
            tma.async_copy_global_to_shared(some, [sample, at, (2 * heads + head) * WIDTH], ready, values.index(stage))
            turn += 1


@gluon.jit
def weigh(scores, scale, highest):
    """Each key's weight, 2 to the power of scores * scale - highest."""
    operands = [scores, scale, -highest[:, None]]
    return gl.inline_asm_elementwise(POWERS, "=f,f,f,f", operands, gl.float32, False, 1)


@gluon.jit
def add_up(weights):
    """Sums of what one thread holds of a row: the columns that are equal modulo 8."""
    return gl.sum(weights.reshape([weights.shape[0], weights.shape[1] // 8, 8]), axis=1)


@gluon.jit
def attend(
    y, table, queries, keys, values, results,
    query_ready, query_free, key_ready, key_free, value_ready, value_free, turns, tokens, scale,
    START_BITS: gl.constexpr, UNITS_BITS: gl.constexpr, HEAD_BITS: gl.constexpr,
    GROUP: gl.constexpr,
):  # fmt: skip
    """Four warps: one unit of each tile, key by key as in FlashAttention (arXiv 2205.14135, algorithm 1)."""
    GROUPS: gl.constexpr = queries.shape[0]
    UNIT: gl.constexpr = queries.shape[2]
    STAGES: gl.constexpr = keys.shape[0]
    KEYS: gl.constexpr = keys.shape[2]
    WIDTH: gl.constexpr = keys.shape[3]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 16])
    RESULT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, 16])
    WEIGHTS: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=RESULT, k_width=2)
    NEXT: gl.constexpr = (GROUP + 1) % GROUPS
    steps = gl.cdiv(tokens, KEYS)
    first, end = gl.load(table + gl.program_id(0)), gl.load(table + gl.program_id(0) + 1)
    turn, own_turn = 0, 0
    query = queries.index(GROUP).reshape([UNIT, WIDTH])
    none = gl.zeros([UNIT, KEYS], gl.float32, SCORES)
    if GROUP == GROUPS - 1:
        mbarrier.arrive(turns.index(0), count=1)  # the first group begins
    word = gl.load(table + first)
    for place in range(first, end):
        start, units, head, sample = name_tile(word, START_BITS, UNITS_BITS, HEAD_BITS)
        word = gl.load(table + place + 1)  # the table has one word more than there are tiles
        mbarrier.wait(query_ready.index(GROUP), place - first & 1)
        if units > GROUP:
            result = gl.zeros([UNIT, WIDTH], gl.float32, RESULT)
            stage = turn % STAGES
            mbarrier.wait(key_ready.index(stage), turn // STAGES & 1)
            turned = keys.index(stage).reshape([KEYS, WIDTH]).permute((1, 0))
            scores = warpgroup_mma(query, turned, none, use_acc=False, is_async=True)
            scores = warpgroup_mma_wait(0, deps=[scores])
            mbarrier.arrive(key_free.index(stage), count=1)
            key = (steps - 1) * KEYS + gl.arange(0, KEYS, gl.SliceLayout(0, SCORES))
            scores = gl.where((key < tokens)[None, :], scores, float("-inf"))
            highest = gl.max(scores, axis=1) * scale
            weights = weigh(scores, scale, highest)
            sums = add_up(weights)
            factors = gl.convert_layout(weights.to(y.dtype), WEIGHTS, assert_trivial=True)
            coming = turn + 1
            mbarrier.wait(key_ready.index(coming % STAGES), coming // STAGES & 1, pred=steps > 1)
            for step in range(1, steps):
                last, last_parity = turn % STAGES, turn // STAGES & 1
                turn += 1
                stage = turn % STAGES
                mbarrier.wait(turns.index(GROUP), own_turn & 1)
                own_turn += 1
                turned = keys.index(stage).reshape([KEYS, WIDTH]).permute((1, 0))
                scores = warpgroup_mma(query, turned, none, use_acc=False, is_async=True)
                mbarrier.wait(value_ready.index(last), last_parity)
                seen = values.index(last).reshape([KEYS, WIDTH])
                result = warpgroup_mma(factors, seen, result, is_async=True)
                mbarrier.arrive(turns.index(NEXT), count=1)
                scores = warpgroup_mma_wait(1, deps=[scores])
                mbarrier.arrive(key_free.index(stage), count=1)
                higher = gl.maximum(highest, gl.max(scores, axis=1) * scale)
                weights = weigh(scores, scale, higher)
                fade = gl.exp2(highest - higher)
                highest = higher
                added = add_up(weights)
                sums_fade = gl.convert_layout(fade, gl.SliceLayout(1, sums.type.layout), assert_trivial=True)
                sums = sums * sums_fade[:, None] + added
                # The next keys. To wait for them here also keeps the compiler from moving the wait below up to before
                # the exponentials, with which the product is to run.
                coming = turn + 1
                mbarrier.wait(key_ready.index(coming % STAGES), coming // STAGES & 1, pred=step + 1 < steps)
                result, weights, sums, fade = warpgroup_mma_wait(0, deps=[result, weights, sums, fade])
                mbarrier.arrive(value_free.index(last), count=1)
                result *= gl.convert_layout(fade, gl.SliceLayout(1, RESULT), assert_trivial=True)[:, None]
                # only now that the product has read the last ones: else they would have registers of their own
                factors = gl.convert_layout(weights.to(y.dtype), WEIGHTS, assert_trivial=True)
            mbarrier.arrive(query_free.index(GROUP), count=1)
            stage = turn % STAGES
            mbarrier.wait(value_ready.index(stage), turn // STAGES & 1)
            seen = values.index(stage).reshape([KEYS, WIDTH])
            result = warpgroup_mma(factors, seen, result, is_async=True)
            whole = 1.0 / gl.sum(sums, axis=1)
            result = warpgroup_mma_wait(0, deps=[result])
            mbarrier.arrive(value_free.index(stage), count=1)
            turn += 1
            result *= gl.convert_layout(whole, gl.SliceLayout(1, RESULT), assert_trivial=True)[:, None]
            own = results.index(GROUP)
            tma.store_wait(0)  # the tile before this one has left
            own.reshape([UNIT, WIDTH]).store(result.to(y.dtype))
            fence_async_shared()
            tma.async_copy_shared_to_global(y, [sample, (start + GROUP) * UNIT, head * WIDTH], own)
        else:  # no unit for this group: it lets all pass, so that the others' turns and the stages go on
            mbarrier.arrive(query_free.index(GROUP), count=1)
            for step in range(0, steps):
                stage, parity = turn % STAGES, turn // STAGES & 1
                if step > 0:
                    mbarrier.wait(turns.index(GROUP), own_turn & 1)
                    mbarrier.arrive(turns.index(NEXT), count=1)
                    own_turn += 1
                mbarrier.wait(key_ready.index(stage), parity)
                mbarrier.arrive(key_free.index(stage), count=1)
                mbarrier.wait(value_ready.index(stage), parity)
                mbarrier.arrive(value_free.index(stage), count=1)
                turn += 1
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["tokens", "heads"])
def attend_in_tiles(
    one, some, y, table, tokens, heads, scale, GROUPS: gl.constexpr, STAGES: gl.constexpr,
    START_BITS: gl.constexpr, UNITS_BITS: gl.constexpr, HEAD_BITS: gl.constexpr,
    GROUP_REGISTERS: gl.constexpr, FETCH_REGISTERS: gl.constexpr,
):  # fmt: skip
    """Queries, keys and values by two descriptors, of `one` unit's rows and of `some`, a step's; y as `one`."""
    UNIT: gl.constexpr = one.block_shape[1]
    KEYS: gl.constexpr = some.block_shape[1]
    WIDTH: gl.constexpr = one.block_shape[2]
    queries = gl.allocate_shared_memory(one.dtype, [GROUPS, 1, UNIT, WIDTH], one.layout)
    keys = gl.allocate_shared_memory(one.dtype, [STAGES, 1, KEYS, WIDTH], some.layout)
    values = gl.allocate_shared_memory(one.dtype, [STAGES, 1, KEYS, WIDTH], some.layout)
    results = gl.allocate_shared_memory(one.dtype, [GROUPS, 1, UNIT, WIDTH], y.layout)
    query_ready = gl.allocate_shared_memory(gl.int64, [GROUPS, 1], mbarrier.MBarrierLayout())
    query_free = gl.allocate_shared_memory(gl.int64, [GROUPS, 1], mbarrier.MBarrierLayout())
    turns = gl.allocate_shared_memory(gl.int64, [GROUPS, 1], mbarrier.MBarrierLayout())
    key_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    key_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    value_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    value_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for group in gl.static_range(GROUPS):
        mbarrier.init(query_ready.index(group), count=1)
        mbarrier.init(query_free.index(group), count=1)
        mbarrier.init(turns.index(group), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(key_ready.index(stage), count=1)
        mbarrier.init(key_free.index(stage), count=GROUPS)
        mbarrier.init(value_ready.index(stage), count=1)
        mbarrier.init(value_free.index(stage), count=GROUPS)
    fence_async_shared()
    gl.warp_specialize(
        [
            (attend, (y, table, queries, keys, values, results, query_ready, query_free, key_ready, key_free,
                      value_ready, value_free, turns, tokens, scale, START_BITS, UNITS_BITS, HEAD_BITS, 0)),
            (attend, (y, table, queries, keys, values, results, query_ready, query_free, key_ready, key_free,
                      value_ready, value_free, turns, tokens, scale, START_BITS, UNITS_BITS, HEAD_BITS, 1)),
            (attend, (y, table, queries, keys, values, results, query_ready, query_free, key_ready, key_free,
                      value_ready, value_free, turns, tokens, scale, START_BITS, UNITS_BITS, HEAD_BITS, 2)),
            (fetch, (one, some, table, queries, keys, values, query_ready, query_free, key_ready, key_free,
                     value_ready, value_free, tokens, heads, START_BITS, UNITS_BITS, HEAD_BITS)),
        ],
        [4, 4, 1],
        [GROUP_REGISTERS, GROUP_REGISTERS, FETCH_REGISTERS],
    )  # fmt: skip


@cache
def lay_table(samples: int, heads: int, units: int, device: torch.device) -> tuple[Tensor, int]:
    """The table of tiles on the device, int32, and the number of programs that it is for.

    Kept for good, since captured graphs read it: some kilobytes, for each of the few numbers of units that pictures
    have.
    """
    dealt = deal_tiles(samples, heads, units, torch.cuda.get_device_properties(device).multi_processor_count)
    return torch.tensor(write_table(dealt), dtype=torch.int32).to(device), len(dealt)


def run(qkv: Tensor, heads: int) -> Tensor:
    """The operator on tensors that `fits`; as `swiftdiffusion_operators.self_attention`."""
    qkv = qkv.contiguous()
    samples, tokens, width = qkv.shape
    y = torch.empty((samples, tokens, width // 3), dtype=qkv.dtype, device=qkv.device)
    table, programs = lay_table(samples, heads, -(-tokens // UNIT), qkv.device)
    layout = gl.NVMMASharedLayout(128, 16, 3)
    attend_in_tiles[(programs,)](
        TensorDescriptor.from_tensor(qkv, [1, UNIT, WIDTH], layout),
        TensorDescriptor.from_tensor(qkv, [1, KEYS, WIDTH], layout),
        TensorDescriptor.from_tensor(y, [1, UNIT, WIDTH], layout),
        table, tokens, heads, WIDTH**-0.5 * math.log2(math.e), GROUPS=GROUPS, STAGES=STAGES,
        START_BITS=START_BITS, UNITS_BITS=UNITS_BITS, HEAD_BITS=HEAD_BITS,
        GROUP_REGISTERS=GROUP_REGISTERS, FETCH_REGISTERS=FETCH_REGISTERS, num_warps=GROUP_WARPS, maxnreg=REGISTERS,
    )  # fmt: skip
    return y
