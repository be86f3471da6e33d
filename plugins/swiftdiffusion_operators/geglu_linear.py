"""A linear layer whose features are gated: GEGLU and the product before it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from swiftdiffusion_operators.geglu import geglu


@torch.library.custom_op("swiftdiffusion::geglu_linear", mutates_args=())
def geglu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Project, then gate the first half of the features by the second (GLU Variants, arXiv 2002.05202, eq. 6).

    Args:
        x: [..., k].
        weight: [2 n, k]: of the values, then of the gates.
        bias: [2 n].

    Returns:
        [..., n]: values · GELU(gates), GELU by erf.
    """
    return _project_and_gate(x, weight, bias)


def _project_and_gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return geglu(functional.linear(x, weight, bias))


@geglu_linear.register_kernel("cuda")
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from swiftdiffusion_operators.kernels import geglu_linear as kernel
    from swiftdiffusion_operators.kernels.hopper import is_hopper

    if not kernel.fits(x, weight):
        return _project_and_gate(x, weight, bias)
    if is_hopper(x.device):
        from swiftdiffusion_operators.kernels import geglu_linear_hopper

        return geglu_linear_hopper.run(x, weight, bias)
    return kernel.run(x, weight, bias)


@geglu_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0] // 2))
