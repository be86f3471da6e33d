"""GroupNorm and the SiLU after it, and the shift of every channel before it, in two passes over the picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::group_norm_silu", mutates_args=())
def group_norm_silu(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool = True, shift: Tensor | None = None
) -> Tensor:
    """Normalise groups of channels (Group Normalization, arXiv 1803.08494), then SiLU.

    Args:
        x: [batch, channels, height, width], in either memory format, which the result keeps.
        weight: [channels].
        bias: [channels].
        groups: how many; divides the channels.
        eps: added to the variance.
        silu: whether SiLU follows.
        shift: [batch, channels], added to every pixel first (the time embedding), or None.
    """
    if shift is not None:
        x = x + shift[:, :, None, None]
    normed = functional.group_norm(x, groups, weight, bias, eps)
    return (functional.silu(normed) if silu else normed).contiguous(memory_format=_memory_format(x))


@group_norm_silu.register_kernel("cuda")
def _(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool = True, shift: Tensor | None = None
) -> Tensor:
    from swiftdiffusion_operators.kernels import group_norm_silu as kernel

    return kernel.run(x, weight, bias, groups, eps, silu, shift)


@group_norm_silu.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool = True, shift: Tensor | None = None
) -> Tensor:
    return torch.empty_like(x, memory_format=_memory_format(x))


def _memory_format(x: Tensor) -> torch.memory_format:
    """Channels last unless the pixels of a channel lie together."""
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last
