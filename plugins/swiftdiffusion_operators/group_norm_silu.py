"""GroupNorm and the SiLU after it, and the shift of every channel before it, in two passes over the picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::group_norm_silu", mutates_args=())
def group_norm_silu(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool = True, shift: Tensor | None = None,
    beside: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Normalise groups of channels (Group Normalization, arXiv 1803.08494), then SiLU.

    Args:
        x: [batch, channels, height, width], in either memory format, which the result has.
        weight: [channels].
        bias: [channels].
        groups: how many; divides the channels.
        eps: added to the variance.
        silu: whether SiLU follows.
        shift: [batch, channels], added to every pixel first (the time embedding), or None.
        beside: the last of the channels, where `x` holds only those before them, or None.
    """
    memory_format = _memory_format(x)
    if beside is not None:
        x = torch.cat([x, beside], dim=1)
    if shift is not None:
        x = x + shift[:, :, None, None]
    normed = functional.group_norm(x, groups, weight, bias, eps)
    return (functional.silu(normed) if silu else normed).contiguous(memory_format=memory_format)


@group_norm_silu.register_kernel("cuda")
def _(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool = True, shift: Tensor | None = None,
    beside: Tensor | None = None,
) -> Tensor:  # fmt: skip
    from swiftdiffusion_operators.kernels import group_norm_silu as kernel

    return kernel.run(x, weight, bias, groups, eps, silu, shift, beside)


@group_norm_silu.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool = True, shift: Tensor | None = None,
    beside: Tensor | None = None,
) -> Tensor:  # fmt: skip
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_memory_format(x))


def _memory_format(x: Tensor) -> torch.memory_format:
    """Channels last unless the pixels of a channel lie together."""
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last
