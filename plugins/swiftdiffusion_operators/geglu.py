"""GEGLU: half of the features times the GELU of the other half."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::geglu", mutates_args=())
def geglu(x: Tensor) -> Tensor:
    """Gate the first half of the features by the second (GLU Variants, arXiv 2002.05202, eq. 6).

    Args:
        x: [..., 2 n]: values, then gates.

    Returns:
        [..., n]: values · GELU(gates), GELU by erf.
    """
    values, gates = x.chunk(2, dim=-1)
    return values * functional.gelu(gates)


@geglu.register_kernel("cuda")
def _(x: Tensor) -> Tensor:
    from swiftdiffusion_operators.kernels import geglu as kernel

    return kernel.run(x)


@geglu.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))
