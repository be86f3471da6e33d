"""The attentions of a transformer block: over the picture, and over the prompt."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from swiftdiffusion.networks.fused.merging import merge
from swiftdiffusion_operators import cross_attention, self_attention


class SelfAttention(nn.Module):
    """Attention of every pixel to all; queries, keys and values are one product. Without the output's projection."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out, self.heads = attention.to_out, attention.heads
        self._merged = [merge([self.to_q.weight, self.to_k.weight, self.to_v.weight])]  # a list: not a parameter

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, pixels, width]; returns the same shape."""
        return self_attention(functional.linear(x, self._merged[0]), self.heads)


class CrossAttention(nn.Module):
    """Attention of every pixel to the prompt, whose keys and values are computed beforehand."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out, self.heads = attention.to_out, attention.heads
        self._merged = [merge([self.to_k.weight, self.to_v.weight])]

    def project(self, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [prompts, tokens, width] of prompts [prompts, tokens, prompt width]."""
        keys, values = functional.linear(prompt_embeds, self._merged[0]).chunk(2, dim=-1)
        return keys, values

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """x [batch, pixels, width]; returns the same of the samples that have a prompt, the last of the batch.

        Keys and values of a prompt of zeros are zeros, and so is then what attention gives.
        """
        return cross_attention(self.to_q(x[-keys.shape[0] :]), keys, values, self.heads)
