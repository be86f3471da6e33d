"""LayerNorm, and the shift of every row before it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::layer_norm", mutates_args=())
def layer_norm(x: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise the last dimension (Layer Normalization, arXiv 1607.06450).

    Args:
        x: [..., n].
        shift: [n], added to every row first; it may be of a finer dtype, as the sum is kept in fp32.
        weight: [n].
        bias: [n].
        eps: added to the variance.
    """
    return functional.layer_norm(x.float() + shift, weight.shape, weight.float(), bias.float(), eps).to(x.dtype)


@layer_norm.register_kernel("cuda")
def _(x: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    from swiftdiffusion_operators.kernels import layer_norm as kernel

    return kernel.run(x, shift, weight, bias, eps)


@layer_norm.register_fake
def _(x: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)
