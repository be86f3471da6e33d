"""LayerNorm, and the shift of every row before it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::layer_norm", mutates_args=())
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, shift: Tensor | None = None) -> Tensor:
    """Normalise the last dimension (Layer Normalization, arXiv 1607.06450).

    Args:
        x: [..., n].
        weight: [n].
        bias: [n].
        eps: added to the variance.
        shift: [n], added to every row first, or None; it may be of a finer dtype, as the sum is kept in fp32.
    """
    total = x.float() if shift is None else x.float() + shift
    return functional.layer_norm(total, weight.shape, weight.float(), bias.float(), eps).to(x.dtype)


@layer_norm.register_kernel("cuda")
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, shift: Tensor | None = None) -> Tensor:
    from swiftdiffusion_operators.kernels import layer_norm as kernel

    return kernel.run(x, weight, bias, eps, shift)


@layer_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, shift: Tensor | None = None) -> Tensor:
    return torch.empty_like(x)
