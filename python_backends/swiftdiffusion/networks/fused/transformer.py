"""The transformer between the residual blocks, over a picture's pixels."""

from __future__ import annotations

from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional

from swiftdiffusion.networks.fused.attention import CrossAttention, SelfAttention
from swiftdiffusion.networks.fused.layout import from_pixels, to_pixels
from swiftdiffusion.networks.fused.norm import GroupNormSiLU
from swiftdiffusion_operators import add_bias, add_layer_norm, geglu_linear, layer_norm


class TransformerBlock(nn.Module):
    """diffusers' ``BasicTransformerBlock``; each residual's addition is left to the LayerNorm after it."""

    def __init__(self, block: BasicTransformerBlock) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = block.norm1, block.norm2, block.norm3
        self.attn1, self.attn2 = SelfAttention(block.attn1), CrossAttention(block.attn2)
        self.ff = block.ff

    def forward(self, x: Tensor, change: Tensor | None, prompt: Any) -> tuple[Tensor, Tensor]:
        """Both [batch, pixels, width]: what the block before gave.

        Returns:
            The residual stream and the change that is still to be added to it.
        """
        x, normed = self._add(self.norm1, change, x)
        x, normed = self._add(self.norm2, self.attn1.to_out[0](self.attn1(normed)), x)
        out = self.attn2.to_out[0]
        x, normed = self._add(self.norm3, out(self.attn2(normed, *prompt[self.attn2])), x, out.bias)
        gated, _, back = self.ff.net
        return x, back(geglu_linear(normed, gated.proj.weight, gated.proj.bias))

    @staticmethod
    def _add(
        norm: nn.LayerNorm, change: Tensor | None, x: Tensor, stand_in: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if change is None:
            return x, layer_norm(x, norm.weight, norm.bias, norm.eps)
        return add_layer_norm(change, x, norm.weight, norm.bias, norm.eps, stand_in)


class Transformer(nn.Module):
    """diffusers' ``Transformer2DModel`` on channels-last pictures, whose pixels are rows already."""

    def __init__(self, transformer: Transformer2DModel) -> None:
        super().__init__()
        self.norm = GroupNormSiLU(transformer.norm, silu=False)
        self.proj_in, self.proj_out = transformer.proj_in, transformer.proj_out
        self.transformer_blocks = nn.ModuleList(TransformerBlock(block) for block in transformer.transformer_blocks)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Any, **_: Any) -> tuple[Tensor]:
        """hidden_states [batch, channels, h, w] channels last; `encoder_hidden_states` what `FusedSteering` gave."""
        picture = to_pixels(hidden_states)
        x = to_pixels(self.norm(hidden_states)).flatten(1, 2)
        # the projections are linear layers, or convolutions of one pixel
        x = functional.linear(x, self.proj_in.weight.flatten(1), self.proj_in.bias)
        change: Tensor | None = None
        for block in self.transformer_blocks:
            x, change = block(x, change, encoder_hidden_states)
        x = functional.linear(x if change is None else x + change, self.proj_out.weight.flatten(1))
        return (from_pixels(add_bias(x.view_as(picture), self.proj_out.bias, picture)),)
