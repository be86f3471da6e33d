"""Attention of every pixel of a picture to all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


@torch.library.custom_op("swiftdiffusion::self_attention", mutates_args=())
def self_attention(qkv: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention (arXiv 1706.03762, eq. 1) of queries, keys and values that are one product.

    Args:
        qkv: [batch, tokens, 3 · heads · width]: queries, then keys, then values, of each the heads side by side.
        heads: how many.

    Returns:
        [batch, tokens, heads · width].
    """
    return _attend(qkv, heads)


def _attend(qkv: Tensor, heads: int) -> Tensor:
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@self_attention.register_kernel("cuda")
def _(qkv: Tensor, heads: int) -> Tensor:
    from swiftdiffusion_operators.kernels import self_attention as kernel

    if kernel.fits(qkv, heads):
        return kernel.run(qkv, heads)
    # of the kernels that torch may choose cuDNN's is the fastest on Hopper, so it is not left to chance
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH], set_priority=True):
        return _attend(qkv, heads)


@self_attention.register_fake
def _(qkv: Tensor, heads: int) -> Tensor:
    return qkv.new_empty((*qkv.shape[:2], qkv.shape[2] // 3))
