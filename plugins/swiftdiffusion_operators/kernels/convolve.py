"""A convolution by 3×3 or 1×1 of channels-last pictures for Hopper's GPUs as one product of matrices, in Gluon.

Nothing is gathered beforehand: of each step, 64 channels of one of the neighbours, a descriptor copies a box of
pixels that lies one further, and fills in the zeros around the picture. One program stays on each multiprocessor and
goes from tile to tile. One warp fetches pixels and weights, some steps ahead and on into the next tile; two groups of
four warps multiply 64 pixels each by the same weights. A tile is WIDE + NARROW channels wide, for tensors are powers of
two wide and SDXL's channels are multiples of 320. A tile's last two steps fetch each group's residual into stages of
the same ring, and the result leaves from there, so that all shared memory serves the copies.

2 samples of 320 channels of 128 × 128 take 85 µs with bias and residual, cuDNN 97 without and 137 with them; 640
channels of 64 × 64 take 79, 106 and 114; 1,280 of 32 × 32 take 87, 91 and 105 (fp16, NVIDIA H200, 2026-11-23).
"""

from __future__ import annotations

import torch
import triton
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

from swiftdiffusion_operators.kernels.convolution_tiles import DEPTH, WIDTHS, choose_unit, choose_width
from swiftdiffusion_operators.kernels.hopper import GROUP_WARPS, is_hopper

REGISTERS, GROUP_REGISTERS, FETCH_REGISTERS = 168, 240, 24  # a thread, at the start and then in each kind of warp
FEWEST = 64  # channels, of what comes in and goes out: with less most of a step or of a tile would be nothing
EVEN = 8  # channels come in such numbers, for a descriptor's rows begin at multiples of 16 bytes

synchronise = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier  # its name until Triton 3.6


def fits(x: Tensor, weight: Tensor, stride: int, padding: int, adds: bool) -> bool:
    """Whether the kernel takes them, faster than cuDNN: 3×3 or 1×1 that keeps the picture's size, on a Hopper GPU.

    cuDNN's own tiles are as good where nothing is added and the channels are no multiple of SDXL's.
    """
    out, channels, *sides = weight.shape
    plain = sides in ([3, 3], [1, 1]) and stride == 1 and padding == sides[0] // 2
    wide = min(out, channels) >= FEWEST and out % EVEN == channels % EVEN == 0
    worthwhile = adds or any(width.narrow and out % width.channels == 0 for width in WIDTHS)
    return plain and wide and worthwhile and x.numel() > 0 and x.itemsize == 2 and is_hopper(x.device)


@gluon.jit
def find_unit(unit, height, width, UNIT_HEIGHT: gl.constexpr, UNIT_WIDTH: gl.constexpr):
    """The sample, row and column where a unit of pixels begins; past the last one a sample that is not there."""
    across = gl.cdiv(width, UNIT_WIDTH)
    down = gl.cdiv(height, UNIT_HEIGHT)
    return unit // (across * down), unit // across % down * UNIT_HEIGHT, unit % across * UNIT_WIDTH


@gluon.jit
def fetch(
    x, wide, narrow, residual, fetched_x, fetched_wide, fetched_narrow, ready, free,
    batch, height, width, channels, out, SIDE: gl.constexpr, ADDS: gl.constexpr,
):  # fmt: skip
    """One warp: pixels and weights of each step and then the residuals, as soon as a stage is free."""
    STAGES: gl.constexpr = fetched_wide.shape[0]
    UNIT_HEIGHT: gl.constexpr = x.block_shape[1]
    UNIT_WIDTH: gl.constexpr = x.block_shape[2]
    DEPTH: gl.constexpr = x.block_shape[3]
    UNIT: gl.constexpr = UNIT_HEIGHT * UNIT_WIDTH
    WIDE: gl.constexpr = fetched_wide.shape[1]
    NARROW: gl.constexpr = fetched_narrow.shape[1] if fetched_narrow is not None else 0
    PIECE: gl.constexpr = residual.block_shape[3]
    BYTES: gl.constexpr = (2 * UNIT + WIDE + NARROW) * DEPTH * 2
    RESIDUAL_BYTES: gl.constexpr = UNIT * (WIDE + NARROW) * 2
    TAPS: gl.constexpr = SIDE * SIDE
    units = batch * gl.cdiv(height, UNIT_HEIGHT) * gl.cdiv(width, UNIT_WIDTH)
    steps = TAPS * gl.cdiv(channels, DEPTH)
    across = gl.cdiv(out, WIDE + NARROW)
    step = 0
    for tile in range(gl.program_id(0), gl.cdiv(units, 2) * across, gl.num_programs(0)):
        channel, unit = tile % across * (WIDE + NARROW), tile // across * 2
        sample_0, row_0, column_0 = find_unit(unit, height, width, UNIT_HEIGHT, UNIT_WIDTH)
        sample_1, row_1, column_1 = find_unit(unit + 1, height, width, UNIT_HEIGHT, UNIT_WIDTH)
        for k in range(0, steps):
            stage = step % STAGES
            at, tap = k // TAPS * DEPTH, k % TAPS
            down, right = tap // SIDE - SIDE // 2, tap % SIDE - SIDE // 2
            arrived = ready.index(stage)
            mbarrier.wait(free.index(stage), (step // STAGES & 1) ^ 1)  # the first round finds all of them free
            mbarrier.expect(arrived, BYTES)
            place_0 = [sample_0, row_0 + down, column_0 + right, at]
            place_1 = [sample_1, row_1 + down, column_1 + right, at]
            tma.async_copy_global_to_shared(x, place_0, arrived, fetched_x.index(2 * stage))
            tma.async_copy_global_to_shared(x, place_1, arrived, fetched_x.index(2 * stage + 1))
            at += tap * channels
            tma.async_copy_global_to_shared(wide, [channel, at], arrived, fetched_wide.index(stage))
            if NARROW > 0:
                tma.async_copy_global_to_shared(narrow, [channel + WIDE, at], arrived, fetched_narrow.index(stage))
            step += 1
        for group in gl.static_range(2):
            stage = step % STAGES
            arrived = ready.index(stage)
            mbarrier.wait(free.index(stage), (step // STAGES & 1) ^ 1)
            if ADDS:
                sample = sample_0 if group == 0 else sample_1
                row = row_0 if group == 0 else row_1
                column = column_0 if group == 0 else column_1
                mbarrier.expect(arrived, RESIDUAL_BYTES)
                in_wide = fetched_wide.index(stage)._reinterpret(
                    residual.dtype, [WIDE // PIECE, 1, UNIT_HEIGHT, UNIT_WIDTH, PIECE], residual.layout
                )
                for i in gl.static_range(WIDE // PIECE):
                    place = [sample, row, column, channel + i * PIECE]
                    tma.async_copy_global_to_shared(residual, place, arrived, in_wide.index(i))
                if NARROW > 0:
                    in_narrow = fetched_narrow.index(stage)._reinterpret(
                        residual.dtype, [1, UNIT_HEIGHT, UNIT_WIDTH, PIECE], residual.layout
                    )
                    place = [sample, row, column, channel + WIDE]
                    tma.async_copy_global_to_shared(residual, place, arrived, in_narrow)
            else:
                mbarrier.arrive(arrived, count=1)
            step += 1


@gluon.jit
def begin(bias, channel, out, UNIT: gl.constexpr, LAYOUT: gl.constexpr, BIASED: gl.constexpr):
    """What a product begins with: the channels' bias, if there is one."""
    COLUMNS: gl.constexpr = LAYOUT.instr_shape[1]
    value = gl.zeros([UNIT, COLUMNS], gl.float32, LAYOUT)
    if BIASED:
        at = channel + gl.arange(0, COLUMNS, gl.SliceLayout(0, LAYOUT))
        value += gl.load(bias + at, mask=at < out, other=0.0).to(gl.float32)[None, :]
    return value


@gluon.jit
def cut(value, PIECE: gl.constexpr):
    """The product's columns in pieces, as a tuple; each is some of the same threads' registers."""
    ROWS: gl.constexpr = value.shape[0]
    COLUMNS: gl.constexpr = value.shape[1] // 2
    if value.shape[1] == PIECE:
        return (value,)
    else:
        HALF: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 16])
        left, right = value.reshape([ROWS, 2, COLUMNS]).permute([0, 2, 1]).split()
        left = gl.convert_layout(left, HALF, assert_trivial=True)
        right = gl.convert_layout(right, HALF, assert_trivial=True)
        return cut(left, PIECE) + cut(right, PIECE)


@gluon.jit
def add_and_store(value, place, ADDS: gl.constexpr):
    """Adds the residual and leaves the result where it was."""
    flat = place.reshape([value.shape[0], value.shape[1]])
    if ADDS:
        value += flat.load(value.type.layout).to(gl.float32)
    flat.store(value.to(place.dtype))


@gluon.jit
def multiply(
    y, bias, fetched_x, fetched_wide, fetched_narrow, ready, free, batch, height, width, channels, out,
    SIDE: gl.constexpr, BIASED: gl.constexpr, ADDS: gl.constexpr, GROUP: gl.constexpr,
):  # fmt: skip
    """Four warps: their unit of each tile's pixels."""
    STAGES: gl.constexpr = fetched_wide.shape[0]
    UNIT_HEIGHT: gl.constexpr = y.block_shape[1]
    UNIT_WIDTH: gl.constexpr = y.block_shape[2]
    UNIT: gl.constexpr = UNIT_HEIGHT * UNIT_WIDTH
    DEPTH: gl.constexpr = fetched_wide.shape[2]
    WIDE: gl.constexpr = fetched_wide.shape[1]
    NARROW: gl.constexpr = fetched_narrow.shape[1] if fetched_narrow is not None else 0
    PIECE: gl.constexpr = y.block_shape[3]
    PIECES: gl.constexpr = WIDE // PIECE
    WIDE_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDE, 16])
    NARROW_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, NARROW, 16])
    units = batch * gl.cdiv(height, UNIT_HEIGHT) * gl.cdiv(width, UNIT_WIDTH)
    steps = SIDE * SIDE * gl.cdiv(channels, DEPTH)
    across = gl.cdiv(out, WIDE + NARROW)
    step, held = 0, 0
    for tile in range(gl.program_id(0), gl.cdiv(units, 2) * across, gl.num_programs(0)):
        channel, unit = tile % across * (WIDE + NARROW), tile // across * 2 + GROUP
        left = begin(bias, channel, out, UNIT, WIDE_LAYOUT, BIASED)
        if NARROW > 0:
            right = begin(bias, channel + WIDE, out, UNIT, NARROW_LAYOUT, BIASED)
        tma.store_wait(0)  # the result of the tile before this one has left its stage
        mbarrier.arrive(free.index(held), count=1, pred=tile > gl.program_id(0))
        for k in range(0, steps):
            stage = step % STAGES
            mbarrier.wait(ready.index(stage), step // STAGES & 1)
            pixels = fetched_x.index(2 * stage + GROUP).reshape([UNIT, DEPTH])
            left = warpgroup_mma(pixels, fetched_wide.index(stage).permute((1, 0)), left, is_async=True)
            if NARROW > 0:
                right = warpgroup_mma(pixels, fetched_narrow.index(stage).permute((1, 0)), right, is_async=True)
                left, right = warpgroup_mma_wait(2, deps=[left, right])
            else:
                left = warpgroup_mma_wait(1, deps=[left])
            # the step before this one is done with its stage
            mbarrier.arrive(free.index((step + STAGES - 1) % STAGES), count=1, pred=k > 0)
            step += 1
        if NARROW > 0:
            left, right = warpgroup_mma_wait(0, deps=[left, right])
        else:
            left = warpgroup_mma_wait(0, deps=[left])
        mbarrier.arrive(free.index((step + STAGES - 1) % STAGES), count=1)
        held, other = (step + GROUP) % STAGES, step + 1 - GROUP
        mbarrier.wait(ready.index(other % STAGES), other // STAGES & 1)
        mbarrier.arrive(free.index(other % STAGES), count=1)  # the other group's residual and result lie there
        mbarrier.wait(ready.index(held), (step + GROUP) // STAGES & 1)
        step += 2
        sample, row, column = find_unit(unit, height, width, UNIT_HEIGHT, UNIT_WIDTH)
        in_wide = fetched_wide.index(held)._reinterpret(y.dtype, [PIECES, 1, UNIT_HEIGHT, UNIT_WIDTH, PIECE], y.layout)
        pieces = cut(left, PIECE)
        for i in gl.static_range(PIECES):
            add_and_store(pieces[i], in_wide.index(i), ADDS)
        if NARROW > 0:
            in_narrow = fetched_narrow.index(held)._reinterpret(y.dtype, [1, UNIT_HEIGHT, UNIT_WIDTH, PIECE], y.layout)
            add_and_store(right, in_narrow, ADDS)
        fence_async_shared()
        synchronise()  # all have written and fenced before one thread lets it go
        for i in gl.static_range(PIECES):
            tma.async_copy_shared_to_global(y, [sample, row, column, channel + i * PIECE], in_wide.index(i))
        if NARROW > 0:
            tma.async_copy_shared_to_global(y, [sample, row, column, channel + WIDE], in_narrow)
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["batch", "height", "width", "channels"])
def convolve_in_tiles(
    x, wide, narrow, residual, y, bias, batch, height, width, channels, out,
    NARROW: gl.constexpr, STAGES: gl.constexpr, SIDE: gl.constexpr, BIASED: gl.constexpr, ADDS: gl.constexpr,
    GROUP_REGISTERS: gl.constexpr, FETCH_REGISTERS: gl.constexpr,
):  # fmt: skip
    """x [batch, height, width, channels], wide and narrow [out, SIDE² channels], residual and y as x: described."""
    WIDE: gl.constexpr = wide.block_shape[0]
    UNIT_HEIGHT: gl.constexpr = x.block_shape[1]
    UNIT_WIDTH: gl.constexpr = x.block_shape[2]
    DEPTH: gl.constexpr = x.block_shape[3]
    fetched_x = gl.allocate_shared_memory(x.dtype, [2 * STAGES, 1, UNIT_HEIGHT, UNIT_WIDTH, DEPTH], x.layout)
    fetched_wide = gl.allocate_shared_memory(x.dtype, [STAGES, WIDE, DEPTH], wide.layout)
    if NARROW > 0:
        fetched_narrow = gl.allocate_shared_memory(x.dtype, [STAGES, NARROW, DEPTH], narrow.layout)
    else:
        fetched_narrow: gl.constexpr = None  # type: ignore[no-redef]
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(free.index(stage), count=2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (multiply, (y, bias, fetched_x, fetched_wide, fetched_narrow, ready, free,
                        batch, height, width, channels, out, SIDE, BIASED, ADDS, 0)),
            (multiply, (y, bias, fetched_x, fetched_wide, fetched_narrow, ready, free,
                        batch, height, width, channels, out, SIDE, BIASED, ADDS, 1)),
            (fetch, (x, wide, narrow, residual, fetched_x, fetched_wide, fetched_narrow, ready, free,
                     batch, height, width, channels, out, SIDE, ADDS)),
        ],
        [4, 1],
        [GROUP_REGISTERS, FETCH_REGISTERS],
    )  # fmt: skip


def describe_pixels(picture: Tensor, unit: tuple[int, int], channels: int) -> TensorDescriptor:
    """[batch, height, width, channels] in boxes of a unit of pixels."""
    layout = gl.NVMMASharedLayout(2 * channels, 16, 4)  # rows of a box lie in so many bytes
    return TensorDescriptor.from_tensor(picture, [1, *unit, channels], layout)


def describe_weights(matrix: Tensor, rows: int) -> TensorDescriptor:
    """[out, taps · channels] in boxes of a step's weights."""
    return TensorDescriptor.from_tensor(matrix, [rows, DEPTH], gl.NVMMASharedLayout(128, 16))


def lay_channels_last(x: Tensor) -> Tensor:
    """[n, channels, height, width] as [n, height, width, channels]; a copy only where it does not lie so."""
    pixels = x.permute(0, 2, 3, 1).contiguous()
    return pixels.view(-1).view(pixels.shape)  # a side of 1 may have had any stride, which no descriptor takes


def run(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
    """The operator on tensors that fit; as `swiftdiffusion_operators.convolve`."""
    pixels, out = lay_channels_last(x), weight.shape[0]
    batch, height, width, channels = pixels.shape
    y = torch.empty((batch, height, width, out), dtype=x.dtype, device=x.device)
    unit = choose_unit(height, width)
    units = batch * triton.cdiv(height, unit[0]) * triton.cdiv(width, unit[1])
    most = torch.cuda.get_device_properties(x.device).multi_processor_count
    tile = choose_width(units, out, most)
    programs = min(triton.cdiv(units, 2) * triton.cdiv(out, tile.channels), most)
    matrix, result = weight.permute(0, 2, 3, 1).flatten(1), describe_pixels(y, unit, tile.piece)
    added = result if residual is None else describe_pixels(lay_channels_last(residual), unit, tile.piece)
    convolve_in_tiles[(programs,)](
        describe_pixels(pixels, unit, DEPTH),
        describe_weights(matrix, tile.wide), describe_weights(matrix, tile.narrow or tile.wide),
        added, result, y if bias is None else bias, batch, height, width, channels, out,
        NARROW=tile.narrow, STAGES=tile.stages, SIDE=weight.shape[2],
        BIASED=bias is not None, ADDS=residual is not None,
        GROUP_REGISTERS=GROUP_REGISTERS, FETCH_REGISTERS=FETCH_REGISTERS, num_warps=GROUP_WARPS, maxnreg=REGISTERS,
    )  # fmt: skip
    return y.permute(0, 3, 1, 2)
