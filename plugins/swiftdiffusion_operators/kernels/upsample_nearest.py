"""Doubling channels-last pictures on a GPU: each program reads a few pixels once and writes them four times."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048


@triton.jit
def double(x, y, pixels, width, C: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr):
    """x is [pixels, C], rows of pictures `width` pixels wide; y the same with both sides doubled."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = (pixel < pixels)[:, None] & (channel < C)[None, :]
    value = tl.load(x + pixel.to(tl.int64)[:, None] * C + channel[None, :], mask=there, other=0.0)
    corner = (pixel // width * 2).to(tl.int64) * (width * 2) + pixel % width * 2
    at = y + corner[:, None] * C + channel[None, :]
    tl.store(at, value, mask=there)
    tl.store(at + C, value, mask=there)
    tl.store(at + width * 2 * C, value, mask=there)
    tl.store(at + (width * 2 + 1) * C, value, mask=there)


def run(x: Tensor) -> Tensor:
    """The operator on tensors; as `swiftdiffusion_operators.upsample_nearest`."""
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = x.shape
    y = torch.empty(
        (batch, channels, height * 2, width * 2), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    block = min(triton.next_power_of_2(channels), 256)
    pixels, rows = batch * height * width, TILE // block
    double[(triton.cdiv(pixels, rows), triton.cdiv(channels, block))](
        x, y, pixels, width, C=channels, CHANNELS=block, PIXELS=rows
    )
    return y
