"""A residual's addition and the LayerNorm of the sum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::add_layer_norm", mutates_args=())
def add_layer_norm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Add, then normalise the last dimension (Layer Normalization, arXiv 1607.06450).

    Args:
        x: [..., n].
        residual: shaped as `x`.
        weight: [n].
        bias: [n].
        eps: added to the variance.

    Returns:
        The sum and its normalisation, both shaped as `x`.
    """
    total = x + residual
    return total, functional.layer_norm(total, weight.shape, weight, bias, eps)


@add_layer_norm.register_kernel("cuda")
def _(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    from swiftdiffusion_operators.kernels import add_layer_norm as kernel

    return kernel.run(x, residual, weight, bias, eps)


@add_layer_norm.register_fake
def _(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)
