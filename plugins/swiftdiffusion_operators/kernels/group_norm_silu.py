"""GroupNorm + SiLU on a GPU: one kernel gathers each group's mean and variance in chunks, one applies them.

Sums are kept in fp32 about a pivot (the chunk's first pixel), and chunks are merged as in Chan, Golub and LeVeque
(1983, eq. 2.1), so that a mean far from zero costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # elements that one program holds at a time
CHUNKS = 64  # at most so many chunks a picture: each program of the second kernel reads all of their statistics
CHANNELS_AT_ONCE = 128


@triton.jit
def _store_group_statistics(
    mean, squares, count, first_group, partial, sample_chunk,
    GROUPS: tl.constexpr, CHANNELS_A_GROUP: tl.constexpr, GROUPS_AT_ONCE: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Merge channels [CHANNELS] of `count` pixels each into groups and store (mean, sum of squares about it)."""
    channel = tl.arange(0, CHANNELS)
    group = tl.arange(0, GROUPS_AT_ONCE)
    member = (channel[:, None] // CHANNELS_A_GROUP) == group[None, :]
    group_mean = tl.sum(tl.where(member, mean[:, None], 0.0), axis=0) / CHANNELS_A_GROUP
    offset = mean[:, None] - group_mean[None, :]
    group_squares = tl.sum(tl.where(member, squares[:, None] + count * offset * offset, 0.0), axis=0)
    at = partial + (sample_chunk * GROUPS + first_group + group) * 2
    tl.store(at, group_mean, mask=first_group + group < GROUPS)
    tl.store(at + 1, group_squares, mask=first_group + group < GROUPS)


@triton.jit
def _load_group_statistics(
    partial, sample, groups, pixels, pixels_a_chunk, chunks, eps,
    GROUPS: tl.constexpr, CHANNELS_A_GROUP: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Merge a picture's chunks; returns the mean and 1 / standard deviation of each of `groups`."""
    chunk = tl.arange(0, CHUNKS)
    there = (chunk < chunks)[:, None] & (groups < GROUPS)[None, :]
    at = partial + ((sample * chunks + chunk)[:, None] * GROUPS + groups[None, :]) * 2
    means = tl.load(at, mask=there, other=0.0)
    squares = tl.load(at + 1, mask=there, other=0.0)
    held = tl.minimum(pixels - chunk * pixels_a_chunk, pixels_a_chunk).to(tl.float32)[:, None] * CHANNELS_A_GROUP
    weight = tl.where(there, held, 0.0)
    count = pixels.to(tl.float32) * CHANNELS_A_GROUP
    mean = tl.sum(means * weight, axis=0) / count
    offset = means - mean[None, :]
    variance = tl.sum(squares + weight * offset * offset, axis=0) / count
    return mean, 1.0 / tl.sqrt(variance + eps)


@triton.jit
def gather_channels_last(
    x, shift, shift_stride, partial, pixels, pixels_a_chunk,
    C: tl.constexpr, GROUPS: tl.constexpr, GROUPS_AT_ONCE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
    SHIFTED: tl.constexpr,
):  # fmt: skip
    """Statistics of one chunk of pixels for GROUPS_AT_ONCE groups; x is [batch, pixels, C]."""
    chunk, block, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    chunks = tl.num_programs(0)
    channels_a_group: tl.constexpr = C // GROUPS
    channel = block * GROUPS_AT_ONCE * channels_a_group + tl.arange(0, CHANNELS)
    mine = (tl.arange(0, CHANNELS) < GROUPS_AT_ONCE * channels_a_group) & (channel < C)
    start = chunk * pixels_a_chunk
    end = tl.minimum(start + pixels_a_chunk, pixels)
    base = x + sample.to(tl.int64) * pixels * C
    pivot = tl.load(base + start.to(tl.int64) * C + channel, mask=mine, other=0.0).to(tl.float32)
    sums = tl.zeros((PIXELS, CHANNELS), tl.float32)
    squares = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for first in range(start, end, PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        there = (pixel < end)[:, None] & mine[None, :]
        value = tl.load(base + pixel.to(tl.int64)[:, None] * C + channel[None, :], mask=there, other=0.0)
        value = tl.where(there, value.to(tl.float32) - pivot[None, :], 0.0)
        sums += value
        squares += value * value
    count = (end - start).to(tl.float32)
    total = tl.sum(sums, axis=0)
    mean = pivot + total / count
    if SHIFTED:
        mean += tl.load(shift + sample * shift_stride + channel, mask=mine, other=0.0).to(tl.float32)
    spread = tl.where(mine, tl.maximum(tl.sum(squares, axis=0) - total * total / count, 0.0), 0.0)
    _store_group_statistics(
        mean, spread, count, block * GROUPS_AT_ONCE, partial, sample * chunks + chunk,
        GROUPS, channels_a_group, GROUPS_AT_ONCE, CHANNELS,
    )  # fmt: skip


@triton.jit
def apply_channels_last(
    x, shift, shift_stride, weight, bias, partial, y, pixels, pixels_a_chunk, chunks, pixels_a_program, eps,
    C: tl.constexpr, GROUPS: tl.constexpr, GROUPS_AT_ONCE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
    CHUNKS: tl.constexpr, SHIFTED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Normalise, scale and activate some pixels of GROUPS_AT_ONCE groups; x and y are [batch, pixels, C]."""
    part, block, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channels_a_group: tl.constexpr = C // GROUPS
    group = tl.arange(0, GROUPS_AT_ONCE)
    mean, scale = _load_group_statistics(
        partial, sample, block * GROUPS_AT_ONCE + group, pixels, pixels_a_chunk, chunks, eps,
        GROUPS, channels_a_group, CHUNKS,
    )  # fmt: skip
    channel = block * GROUPS_AT_ONCE * channels_a_group + tl.arange(0, CHANNELS)
    mine = (tl.arange(0, CHANNELS) < GROUPS_AT_ONCE * channels_a_group) & (channel < C)
    member = (tl.arange(0, CHANNELS)[:, None] // channels_a_group) == group[None, :]
    scale = tl.sum(tl.where(member, scale[None, :], 0.0), axis=1)
    scale *= tl.load(weight + channel, mask=mine, other=0.0).to(tl.float32)
    offset = -tl.sum(tl.where(member, mean[None, :], 0.0), axis=1)
    if SHIFTED:
        offset += tl.load(shift + sample * shift_stride + channel, mask=mine, other=0.0).to(tl.float32)
    added = tl.load(bias + channel, mask=mine, other=0.0).to(tl.float32)
    start = part * pixels_a_program
    base = sample.to(tl.int64) * pixels * C
    for first in range(start, tl.minimum(start + pixels_a_program, pixels), PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        there = (pixel < pixels)[:, None] & mine[None, :]
        at = base + pixel.to(tl.int64)[:, None] * C + channel[None, :]
        value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
        value = (value + offset[None, :]) * scale[None, :] + added[None, :]
        if SILU:
            value = value * tl.sigmoid(value)
        tl.store(y + at, value.to(y.dtype.element_ty), mask=there)


@triton.jit
def gather_channels_first(
    x, shift, shift_stride, partial, pixels, pixels_a_chunk,
    C: tl.constexpr, GROUPS: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr, SHIFTED: tl.constexpr,
):  # fmt: skip
    """Statistics of one chunk of pixels for one group; x is [batch, C, pixels]."""
    chunk, group, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    chunks = tl.num_programs(0)
    channels_a_group: tl.constexpr = C // GROUPS
    start = chunk * pixels_a_chunk
    end = tl.minimum(start + pixels_a_chunk, pixels)
    count = (end - start).to(tl.float32)
    held = 0.0
    mean = 0.0
    spread = 0.0
    for begin in tl.static_range(0, channels_a_group, CHANNELS):
        channel = begin + tl.arange(0, CHANNELS)
        mine = channel < channels_a_group
        row = x + (sample * C + group * channels_a_group + channel).to(tl.int64) * pixels
        pivot = tl.load(row + start, mask=mine, other=0.0).to(tl.float32)
        sums = tl.zeros((CHANNELS, PIXELS), tl.float32)
        squares = tl.zeros((CHANNELS, PIXELS), tl.float32)
        for first in range(start, end, PIXELS):
            pixel = first + tl.arange(0, PIXELS)
            there = mine[:, None] & (pixel < end)[None, :]
            value = tl.load(row[:, None] + pixel[None, :], mask=there, other=0.0)
            value = tl.where(there, value.to(tl.float32) - pivot[:, None], 0.0)
            sums += value
            squares += value * value
        total = tl.sum(sums, axis=1)
        means = pivot + total / count
        if SHIFTED:
            at = shift + sample * shift_stride + group * channels_a_group + channel
            means += tl.load(at, mask=mine, other=0.0).to(tl.float32)
        within = tl.where(mine, tl.maximum(tl.sum(squares, axis=1) - total * total / count, 0.0), 0.0)
        channels: tl.constexpr = min(CHANNELS, channels_a_group - begin)
        here = tl.sum(tl.where(mine, means, 0.0), axis=0) / channels
        offset = tl.where(mine, means - here, 0.0)
        fresh = count * channels
        spread_here = tl.sum(within + count * offset * offset, axis=0)
        gap = here - mean
        mean += gap * fresh / (held + fresh)
        spread += spread_here + gap * gap * held * fresh / (held + fresh)
        held += fresh
    at = partial + ((sample * chunks + chunk) * GROUPS + group) * 2
    tl.store(at, mean)
    tl.store(at + 1, spread)


@triton.jit
def apply_channels_first(
    x, shift, shift_stride, weight, bias, partial, y, pixels, pixels_a_chunk, chunks, eps,
    C: tl.constexpr, GROUPS: tl.constexpr, PIXELS: tl.constexpr, CHUNKS: tl.constexpr,
    SHIFTED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Normalise, scale and activate some pixels of one channel; x and y are [batch, C, pixels]."""
    part, channel, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channels_a_group: tl.constexpr = C // GROUPS
    groups = channel // channels_a_group + tl.arange(0, 1)
    mean, scale = _load_group_statistics(
        partial, sample, groups, pixels, pixels_a_chunk, chunks, eps, GROUPS, channels_a_group, CHUNKS
    )
    scale *= tl.load(weight + channel).to(tl.float32)
    offset = -mean
    if SHIFTED:
        offset += tl.load(shift + sample * shift_stride + channel).to(tl.float32)
    pixel = part * PIXELS + tl.arange(0, PIXELS)
    there = pixel < pixels
    at = (sample * C + channel).to(tl.int64) * pixels + pixel
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    value = (value + offset) * scale + tl.load(bias + channel).to(tl.float32)
    if SILU:
        value = value * tl.sigmoid(value)
    tl.store(y + at, value.to(y.dtype.element_ty), mask=there)


@dataclass(frozen=True)
class Extent:
    """A picture's sizes as the kernels take them."""

    batch: int
    channels: int
    pixels: int
    groups: int
    channels_last: bool

    @property
    def pixels_a_chunk(self) -> int:
        """How many pixels the statistics of one chunk are of."""
        return triton.cdiv(self.pixels, min(CHUNKS, triton.cdiv(self.pixels, 32)))

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return triton.cdiv(self.pixels, self.pixels_a_chunk)

    @property
    def workspace(self) -> int:
        """fp32 elements that pass from the first kernel to the second."""
        return self.batch * self.chunks * self.groups * 2


def launch(
    x: Tensor, shift: Tensor | None, shift_stride: int, weight: Tensor, bias: Tensor, y: Tensor, workspace: Tensor,
    extent: Extent, eps: float, silu: bool,
) -> None:  # fmt: skip
    """Enqueue both kernels on torch's current stream.

    Args:
        x: anything with ``data_ptr()`` and ``dtype``; so the other tensors.
        shift: [batch, channels], its rows `shift_stride` elements apart, or None.
        shift_stride: 0 where all pictures share one row.
        weight: [channels].
        bias: [channels].
        y: where the result goes, laid out as `x`.
        workspace: ``extent.workspace`` fp32 elements, of any content.
        extent: the sizes.
        eps: added to the variance.
        silu: whether SiLU follows.
    """
    channels, groups, pixels, chunks = extent.channels, extent.groups, extent.pixels, extent.chunks
    share = channels // groups
    sizes = (pixels, extent.pixels_a_chunk)
    shifted = shift is not None
    shift = x if shift is None else shift  # a pointer of some kind: it is not read
    most_chunks = triton.next_power_of_2(chunks)
    if not extent.channels_last:
        held = min(triton.next_power_of_2(share), 64)
        gather_channels_first[(chunks, groups, extent.batch)](
            x,
            shift,
            shift_stride,
            workspace,
            *sizes,
            C=channels,
            GROUPS=groups,
            CHANNELS=held,
            PIXELS=TILE // held,
            SHIFTED=shifted,
        )
        tile = min(TILE // 2, triton.next_power_of_2(pixels))
        apply_channels_first[(triton.cdiv(pixels, tile), channels, extent.batch)](
            x, shift, shift_stride, weight, bias, workspace, y, *sizes, chunks, eps,
            C=channels, GROUPS=groups, PIXELS=tile, CHUNKS=most_chunks, SHIFTED=shifted, SILU=silu,
        )  # fmt: skip
        return
    at_once = 1
    while at_once * 2 * share <= CHANNELS_AT_ONCE and at_once < groups:
        at_once *= 2
    held = triton.next_power_of_2(at_once * share)
    blocks = triton.cdiv(groups, at_once)
    rows = max(1, TILE // held)
    gather_channels_last[(chunks, blocks, extent.batch)](
        x, shift, shift_stride, workspace, *sizes,
        C=channels, GROUPS=groups, GROUPS_AT_ONCE=at_once, CHANNELS=held, PIXELS=rows, SHIFTED=shifted,
    )  # fmt: skip
    programs = max(1, min(triton.cdiv(pixels, rows), 1024 // (blocks * extent.batch)))
    each = triton.cdiv(triton.cdiv(pixels, rows), programs) * rows
    apply_channels_last[(triton.cdiv(pixels, each), blocks, extent.batch)](
        x, shift, shift_stride, weight, bias, workspace, y, *sizes, chunks, each, eps,
        C=channels, GROUPS=groups, GROUPS_AT_ONCE=at_once, CHANNELS=held, PIXELS=rows,
        CHUNKS=most_chunks, SHIFTED=shifted, SILU=silu,
    )  # fmt: skip


def run(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool, shift: Tensor | None) -> Tensor:
    """The operator on tensors; as `swiftdiffusion_operators.group_norm_silu`."""
    channels_last = not x.is_contiguous()
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    batch, channels, height, width = x.shape
    extent = Extent(batch, channels, height * width, groups, channels_last)
    y = torch.empty_like(x)
    workspace = torch.empty(extent.workspace, dtype=torch.float32, device=x.device)
    if shift is not None and shift.stride(1) != 1:
        shift = shift.contiguous()
    launch(x, shift, 0 if shift is None else shift.stride(0), weight, bias, y, workspace, extent, eps, silu)
    return y
