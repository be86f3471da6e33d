"""LayerNorm."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::layer_norm", mutates_args=())
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise the last dimension (Layer Normalization, arXiv 1607.06450).

    Args:
        x: [..., n].
        weight: [n].
        bias: [n].
        eps: added to the variance.
    """
    return functional.layer_norm(x, weight.shape, weight, bias, eps)


@layer_norm.register_kernel("cuda")
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    from swiftdiffusion_operators.kernels import add_layer_norm as kernel

    return kernel.run(x, None, weight, bias, eps)[1]


@layer_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)
