"""The VAE's attention: one head as wide as the picture is deep."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from swiftdiffusion.networks.fused.layout import from_pixels, to_pixels
from swiftdiffusion.networks.fused.norm import GroupNormSiLU

SCORES = 2**28  # at most so many at a time: 512 MB in fp16


class VaeAttention(nn.Module):
    """Attention with its norm and residual, in slices of queries; heads this wide have no flash kernel."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.group_norm = GroupNormSiLU(attention.group_norm, silu=False)
        self.to_q, self.to_k, self.to_v, self.to_out = attention.to_q, attention.to_k, attention.to_v, attention.to_out

    def forward(self, x: Tensor, temb: None = None) -> Tensor:
        """x [batch, channels, h, w] channels last; returns the same shape."""
        picture = to_pixels(x)
        rows = to_pixels(self.group_norm(x)).flatten(1, 2)
        q = self.to_q(rows) * rows.shape[-1] ** -0.5
        k, v = self.to_k(rows).transpose(1, 2), self.to_v(rows)
        slices = q.split(max(1, SCORES // (rows.shape[0] * rows.shape[1])), dim=1)
        mixed = torch.cat([(part @ k).softmax(-1) @ v for part in slices], dim=1)
        return from_pixels(self.to_out[0](mixed).view_as(picture) + picture)
