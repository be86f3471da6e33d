"""A layer's bias and the residual after it, added at once."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("swiftdiffusion::add_bias", mutates_args=())
def add_bias(x: Tensor, bias: Tensor, residual: Tensor | None = None) -> Tensor:
    """Add what is there.

    Args:
        x: [..., channels].
        bias: [channels].
        residual: shaped as `x`, or None.
    """
    return x + bias if residual is None else x + bias + residual


@add_bias.register_kernel("cuda")
def _(x: Tensor, bias: Tensor, residual: Tensor | None = None) -> Tensor:
    from swiftdiffusion_operators.kernels import add_bias as kernel

    return kernel.run(x, bias, residual)


@add_bias.register_fake
def _(x: Tensor, bias: Tensor, residual: Tensor | None = None) -> Tensor:
    return torch.empty_like(x)
