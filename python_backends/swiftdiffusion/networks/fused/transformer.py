"""The transformer between the residual blocks, over a picture's pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional

from swiftdiffusion.networks.fused.attention import CrossAttention, SelfAttention
from swiftdiffusion.networks.fused.layout import from_pixels, to_pixels
from swiftdiffusion.networks.fused.norm import GroupNormSiLU
from swiftdiffusion_operators import convolve, geglu_linear, layer_norm


class TransformerBlock(nn.Module):
    """diffusers' ``BasicTransformerBlock``, whose products add to the residual stream where it lies.

    The stream never gets their biases: what it lacks of them is the shift of the LayerNorm that reads it.
    """

    def __init__(self, block: BasicTransformerBlock) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = block.norm1, block.norm2, block.norm3
        self.attn1, self.attn2 = SelfAttention(block.attn1), CrossAttention(block.attn2)
        self.ff = block.ff

    @property
    def products(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Those that add to the stream, in their order."""
        return self.attn1.to_out[0], self.attn2.to_out[0], self.ff.net[2]

    def forward(self, x: Tensor, shifts: Tensor, given: Mapping[nn.Module, Any]) -> None:
        """Change x [batch, pixels, width] in place; `shifts` [3, width] is what it lacks before each product."""
        first, second, third = self.products
        _add_product(x, first, self.attn1(_normalise(x, self.norm1, shifts[0])))
        _add_product(x, second, self.attn2(_normalise(x, self.norm2, shifts[1]), *given[self.attn2]))
        gated = self.ff.net[0].proj
        _add_product(x, third, geglu_linear(_normalise(x, self.norm3, shifts[2]), gated.weight, gated.bias))


def _normalise(x: Tensor, norm: nn.LayerNorm, shift: Tensor) -> Tensor:
    return layer_norm(x, shift, norm.weight, norm.bias, norm.eps)


def _add_product(x: Tensor, linear: nn.Linear, hidden: Tensor) -> None:
    """Add what the layer makes of `hidden`, but not its bias, to x [batch, pixels, width] in the product's epilogue.

    `hidden` [batch, pixels, its width] may be of the batch's last samples alone: the others are zeros.
    """
    rows = x[-hidden.shape[0] :].view(-1, x.shape[-1])  # never a copy, which `flatten` might be
    rows.addmm_(hidden.flatten(0, 1), linear.weight.t())


class Biases(NamedTuple):
    """A transformer's biases, added up."""

    shifts: Tensor  # [3 · blocks, width] in fp32: what the residual stream lacks before each product that adds to it
    last: Tensor  # [channels]: the last projection's, and what that makes of what the stream lacks in the end


class Transformer(nn.Module):
    """diffusers' ``Transformer2DModel`` on channels-last pictures, whose pixels are rows already.

    The projections are linear layers, or convolutions of one pixel.
    """

    def __init__(self, transformer: Transformer2DModel) -> None:
        super().__init__()
        self.norm = GroupNormSiLU(transformer.norm, silu=False)
        self.proj_in, self.proj_out = transformer.proj_in, transformer.proj_out
        self.transformer_blocks = nn.ModuleList(TransformerBlock(block) for block in transformer.transformer_blocks)

    def prepare(self) -> Biases:
        """What `forward` takes of the live weights."""
        blocks = [module for module in self.modules() if isinstance(module, TransformerBlock)]
        layers = [self.proj_in, *(product for block in blocks for product in block.products)]
        lacking = torch.stack([layer.bias for layer in layers]).cumsum(0, dtype=torch.float32)
        weight, bias = self.proj_out.weight.flatten(1), self.proj_out.bias
        return Biases(lacking[:-1], functional.linear(lacking[-1].to(bias.dtype), weight, bias))

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Mapping[nn.Module, Any], **_: Any) -> tuple[Tensor]:
        """hidden_states [batch, channels, h, w] channels last; `encoder_hidden_states` what `FusedSteering` gave."""
        given, picture = encoder_hidden_states, to_pixels(hidden_states)
        biases: Biases = given[self]
        x = functional.linear(to_pixels(self.norm(hidden_states)).flatten(1, 2), self.proj_in.weight.flatten(1))
        for block, shifts in zip(self.transformer_blocks, biases.shifts.split(3), strict=True):
            block(x, shifts, given)
        weight = self.proj_out.weight.flatten(1)[:, :, None, None]
        return (convolve(from_pixels(x.view_as(picture)), weight, biases.last, hidden_states, padding=0),)
