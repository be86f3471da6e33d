"""A residual's addition and the LayerNorm of the sum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::add_layer_norm", mutates_args=())
def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, stand_in: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Add, then normalise the last dimension (Layer Normalization, arXiv 1607.06450).

    Args:
        x: [batch, ..., n], or only the batch's last samples.
        residual: [batch, ..., n].
        weight: [n].
        bias: [n].
        eps: added to the variance.
        stand_in: [n], what is added to the samples that `x` has not; it may be None where there are none.

    Returns:
        The sum and its normalisation, both shaped as `residual`.
    """
    lacking = residual.shape[0] - x.shape[0]
    if lacking:
        assert stand_in is not None
        x = torch.cat([stand_in.expand(lacking, *x.shape[1:]), x])
    total = x + residual
    return total, functional.layer_norm(total, weight.shape, weight, bias, eps)


@add_layer_norm.register_kernel("cuda")
def _(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, stand_in: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    from swiftdiffusion_operators.kernels import add_layer_norm as kernel

    return kernel.run(x, residual, weight, bias, eps, stand_in)


@add_layer_norm.register_fake
def _(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, stand_in: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(residual), torch.empty_like(residual)
