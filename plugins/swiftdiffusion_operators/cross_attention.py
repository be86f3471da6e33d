"""Attention of a picture to a prompt, whose keys and values are few."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::cross_attention", mutates_args=())
def cross_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention (arXiv 1706.03762, eq. 1), heads side by side in the last dimension.

    Args:
        q: [batch, queries, heads · width].
        k: [batch, keys, heads · width].
        v: as `k`.
        heads: how many.

    Returns:
        Shaped as `q`.
    """
    return _attend(q, k, v, heads)


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    parts = [tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (q, k, v)]
    return functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


@cross_attention.register_kernel("cuda")
def _(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    from swiftdiffusion_operators.kernels import cross_attention as kernel

    if not kernel.fits(k.shape[1], q.shape[2] // heads):
        return _attend(q, k, v, heads)
    return kernel.run(q.contiguous(), k, v, heads)


@cross_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    return torch.empty_like(q)
