"""GroupNorm + SiLU on a GPU in three kernels: gather each channel's statistics by chunks of pixels, merge them into a
scale and an offset for each channel, and apply those.

Sums are kept in fp32 about a pivot (the chunk's first pixel), and chunks and channels are merged as in Chan, Golub and
LeVeque (1983, eq. 2.1), so that a mean far from zero costs no digits. Blocks of channels are powers of two that divide
SDXL's widths, which are multiples of 64, so that no lane idles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # elements that one program holds at a time
PROGRAMS = 512  # about so many gather statistics: four for each of a large GPU's multiprocessors
WIDEST_BLOCK = 256  # channels
GATHERED_CHANNELS, GATHERED_PIXELS = 32, 64  # that a gathering program of channels-last pictures holds at a time
STAGES = 3  # of these tiles are on their way at once: gathering waits for memory alone
SEAMS = 32  # where a second picture's channels may begin: at multiples of so many


@triton.jit
def choose_source(x, beside, channel, start, C: tl.constexpr, SEAM: tl.constexpr):
    """Which picture holds the channels from `start` on, how many it has, and their places there."""
    if SEAM < C:
        follows = start >= SEAM
        source = tl.where(follows, beside, x)
        held = tl.where(follows, C - SEAM, SEAM)
        place = channel - tl.where(follows, SEAM, 0)
    else:
        source, held, place = x, C, channel
    return source, held, place


@triton.jit
def gather_channels_last(
    x, beside, statistics, pixels, pixels_a_chunk,
    C: tl.constexpr, SEAM: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squares about it of each channel in one chunk; x [batch, pixels, SEAM], beside the rest of C."""
    chunk, block, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channel = block * CHANNELS + tl.arange(0, CHANNELS)
    source, held, place = choose_source(x, beside, channel, block * CHANNELS, C, SEAM)
    start = chunk * pixels_a_chunk
    end = tl.minimum(start + pixels_a_chunk, pixels)
    base = source + sample.to(tl.int64) * pixels * held
    pivot = tl.load(base + start.to(tl.int64) * held + place, mask=channel < C, other=0.0).to(tl.float32)
    sums = tl.zeros((PIXELS, CHANNELS), tl.float32)
    squares = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for first in tl.range(start, end, PIXELS, num_stages=STAGES):
        pixel = first + tl.arange(0, PIXELS)
        there = (pixel < end)[:, None] & (channel < C)[None, :]
        value = tl.load(base + pixel.to(tl.int64)[:, None] * held + place[None, :], mask=there, other=0.0)
        value = tl.where(there, value.to(tl.float32) - pivot[None, :], 0.0)
        sums += value
        squares += value * value
    count = (end - start).to(tl.float32)
    total = tl.sum(sums, axis=0)
    at = statistics + (sample * tl.num_programs(0) + chunk) * 2 * C + channel
    tl.store(at, pivot + total / count, mask=channel < C)
    tl.store(at + C, tl.maximum(tl.sum(squares, axis=0) - total * total / count, 0.0), mask=channel < C)


@triton.jit
def gather_channels_first(x, statistics, pixels, pixels_a_chunk, C, PIXELS: tl.constexpr):
    """The same for one channel; x is [batch, C, pixels]."""
    chunk, channel, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start = chunk * pixels_a_chunk
    end = tl.minimum(start + pixels_a_chunk, pixels)
    row = x + (sample * C + channel).to(tl.int64) * pixels
    pivot = tl.load(row + start).to(tl.float32)
    sums = tl.zeros((PIXELS,), tl.float32)
    squares = tl.zeros((PIXELS,), tl.float32)
    for first in range(start, end, PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        value = tl.load(row + pixel, mask=pixel < end, other=0.0)
        value = tl.where(pixel < end, value.to(tl.float32) - pivot, 0.0)
        sums += value
        squares += value * value
    count = (end - start).to(tl.float32)
    total = tl.sum(sums, axis=0)
    at = statistics + (sample * tl.num_programs(0) + chunk) * 2 * C + channel
    tl.store(at, pivot + total / count)
    tl.store(at + C, tl.maximum(tl.sum(squares, axis=0) - total * total / count, 0.0))


@triton.jit
def merge(
    statistics, shift, shift_stride, weight, bias, table, pixels, pixels_a_chunk, chunks, eps,
    C: tl.constexpr, GROUPS: tl.constexpr, CHUNKS: tl.constexpr, CHANNELS: tl.constexpr, SHIFTED: tl.constexpr,
):  # fmt: skip
    """One group's mean and variance, as a scale and an offset for each of its channels; table is [batch, 2, C]."""
    group, sample = tl.program_id(0), tl.program_id(1)
    share: tl.constexpr = C // GROUPS
    chunk, place = tl.arange(0, CHUNKS), tl.arange(0, CHANNELS)
    channel = group * share + place
    mine = place < share
    there = (chunk < chunks)[:, None] & mine[None, :]
    at = statistics + (sample * chunks + chunk)[:, None] * 2 * C + channel[None, :]
    means = tl.load(at, mask=there, other=0.0)
    squares = tl.load(at + C, mask=there, other=0.0)
    added = tl.zeros((CHANNELS,), tl.float32)
    if SHIFTED:
        added += tl.load(shift + sample * shift_stride + channel, mask=mine, other=0.0).to(tl.float32)
    means += added[None, :]
    held = tl.minimum(pixels - chunk * pixels_a_chunk, pixels_a_chunk).to(tl.float32)
    held = tl.where(there, held[:, None], 0.0)
    count = pixels.to(tl.float32) * share
    mean = tl.sum(tl.sum(means * held, axis=1), axis=0) / count
    offset = means - mean
    variance = tl.sum(tl.sum(squares + held * offset * offset, axis=1), axis=0) / count
    scale = tl.load(weight + channel, mask=mine, other=0.0).to(tl.float32) / tl.sqrt(variance + eps)
    start = tl.load(bias + channel, mask=mine, other=0.0).to(tl.float32) + (added - mean) * scale
    tl.store(table + sample * 2 * C + channel, scale, mask=mine)
    tl.store(table + (sample * 2 + 1) * C + channel, start, mask=mine)


@triton.jit
def apply_channels_last(
    x, beside, table, y, pixels,
    C: tl.constexpr, SEAM: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Scale, offset and activate a tile; x is [batch, pixels, SEAM], beside the rest of C, y [batch, pixels, C]."""
    part, block, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channel = block * CHANNELS + tl.arange(0, CHANNELS)
    pixel = part * PIXELS + tl.arange(0, PIXELS)
    there = (pixel < pixels)[:, None] & (channel < C)[None, :]
    source, held, place = choose_source(x, beside, channel, block * CHANNELS, C, SEAM)
    row = (sample.to(tl.int64) * pixels + pixel.to(tl.int64))[:, None]
    value = tl.load(source + row * held + place[None, :], mask=there, other=0.0).to(tl.float32)
    scale = tl.load(table + sample * 2 * C + channel, mask=channel < C, other=0.0)
    start = tl.load(table + (sample * 2 + 1) * C + channel, mask=channel < C, other=0.0)
    value = value * scale[None, :] + start[None, :]
    if SILU:
        value = value / (1.0 + tl.exp(-value))
    tl.store(y + row * C + channel[None, :], value.to(y.dtype.element_ty), mask=there)


@triton.jit
def apply_channels_first(x, table, y, pixels, C, PIXELS: tl.constexpr, SILU: tl.constexpr):
    """The same for some pixels of one channel; x and y are [batch, C, pixels]."""
    part, channel, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    pixel = part * PIXELS + tl.arange(0, PIXELS)
    at = (sample * C + channel).to(tl.int64) * pixels + pixel
    value = tl.load(x + at, mask=pixel < pixels, other=0.0).to(tl.float32)
    value = value * tl.load(table + sample * 2 * C + channel) + tl.load(table + (sample * 2 + 1) * C + channel)
    if SILU:
        value = value / (1.0 + tl.exp(-value))
    tl.store(y + at, value.to(y.dtype.element_ty), mask=pixel < pixels)


@dataclass(frozen=True)
class Extent:
    """A batch of pictures' sizes as the kernels take them."""

    batch: int
    channels: int
    pixels: int
    groups: int
    channels_last: bool
    seam: int = 0  # where a second picture's channels begin, if there is one

    @property
    def pixels_a_chunk(self) -> int:
        """How many pixels the statistics of one chunk are of."""
        chunks = triton.cdiv(PROGRAMS, self.batch * triton.cdiv(self.channels, self.gathered))
        return triton.cdiv(triton.cdiv(self.pixels, chunks), GATHERED_PIXELS) * GATHERED_PIXELS

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return triton.cdiv(self.pixels, self.pixels_a_chunk)

    @property
    def table(self) -> int:
        """Where in the workspace the scales and offsets begin: after the chunks' statistics."""
        return self.batch * self.chunks * 2 * self.channels

    @property
    def workspace(self) -> int:
        """fp32 elements that pass from kernel to kernel."""
        return self.table + self.batch * 2 * self.channels

    @property
    def gathered(self) -> int:
        """Channels that a program takes to gather statistics."""
        return min(self.block, GATHERED_CHANNELS)

    @property
    def block(self) -> int:
        """Channels that a program applies them to: the widest power of two that divides both pictures'."""
        both = self.channels | self.seam
        even = both & -both
        return min(even, WIDEST_BLOCK) if even >= 32 else min(triton.next_power_of_2(self.channels), 64)


def bound_workspace(batch: int, channels: int) -> int:
    """fp32 elements that suffice for up to `batch` pictures of any size."""
    blocks = triton.cdiv(channels, Extent(batch, channels, 1, 1, True).gathered)
    statistics = triton.cdiv(PROGRAMS, blocks) + batch  # no less than all pictures' chunks, rounded up for each
    return (statistics + batch) * 2 * channels


def launch(
    x: Tensor, shift: Tensor | None, shift_stride: int, weight: Tensor, bias: Tensor, y: Tensor,
    statistics: Tensor, table: Tensor, extent: Extent, eps: float, silu: bool, beside: Tensor | None = None,
) -> None:  # fmt: skip
    """Enqueue the kernels on torch's current stream.

    Args:
        x: anything with ``data_ptr()`` and ``dtype``; so the other tensors.
        shift: [batch, channels], its rows `shift_stride` elements apart, or None.
        shift_stride: 0 where all pictures share one row.
        weight: [channels].
        bias: [channels].
        y: where the result goes, laid out as `x`.
        statistics: the workspace's first ``extent.table`` fp32 elements, of any content.
        table: the rest of its ``extent.workspace``.
        extent: the sizes.
        eps: added to the variance.
        silu: whether SiLU follows.
        beside: what holds the channels from ``extent.seam`` on, or None.
    """
    channels, pixels, batch, block = extent.channels, extent.pixels, extent.batch, extent.block
    rows = max(1, TILE // block)
    chunked = (pixels, extent.pixels_a_chunk)
    sources, seam = (x, x if beside is None else beside), extent.seam or channels
    if extent.channels_last:
        gather_channels_last[(extent.chunks, triton.cdiv(channels, extent.gathered), batch)](
            *sources, statistics, *chunked,
            C=channels, SEAM=seam, CHANNELS=extent.gathered, PIXELS=GATHERED_PIXELS, STAGES=STAGES,
        )  # fmt: skip
    else:
        tile = min(TILE, triton.next_power_of_2(extent.pixels_a_chunk))
        gather_channels_first[(extent.chunks, channels, batch)](x, statistics, *chunked, channels, PIXELS=tile)
    merge[(extent.groups, batch)](
        statistics, x if shift is None else shift, shift_stride, weight, bias, table, *chunked, extent.chunks, eps,
        C=channels, GROUPS=extent.groups, CHUNKS=triton.next_power_of_2(extent.chunks),
        CHANNELS=triton.next_power_of_2(channels // extent.groups), SHIFTED=shift is not None,
    )  # fmt: skip
    if extent.channels_last:
        apply_channels_last[(triton.cdiv(pixels, rows), triton.cdiv(channels, block), batch)](
            *sources, table, y, pixels, C=channels, SEAM=seam, CHANNELS=block, PIXELS=rows, SILU=silu
        )
    else:
        tile = min(TILE, triton.next_power_of_2(pixels))
        apply_channels_first[(triton.cdiv(pixels, tile), channels, batch)](
            x, table, y, pixels, channels, PIXELS=tile, SILU=silu
        )


def run(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool, shift: Tensor | None,
    beside: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The operator on tensors; as `swiftdiffusion_operators.group_norm_silu`."""
    channels_last = not x.is_contiguous()
    if beside is not None and not (channels_last and x.shape[1] % SEAMS == beside.shape[1] % SEAMS == 0):
        x, beside = torch.cat([x, beside], dim=1), None
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = x.contiguous(memory_format=layout)
    seam = 0
    if beside is not None:
        beside, seam = beside.contiguous(memory_format=layout), x.shape[1]
    batch, _, height, width = x.shape
    channels = weight.numel()
    extent = Extent(batch, channels, height * width, groups, channels_last, seam)
    y = torch.empty((batch, channels, height, width), dtype=x.dtype, device=x.device, memory_format=layout)
    workspace = torch.empty(extent.workspace, dtype=torch.float32, device=x.device)
    statistics, table = workspace[: extent.table], workspace[extent.table :]
    if shift is not None and shift.stride(1) != 1:
        shift = shift.contiguous()
    stride = 0 if shift is None else shift.stride(0)
    launch(x, shift, stride, weight, bias, y, statistics, table, extent, eps, silu, beside)
    return y
