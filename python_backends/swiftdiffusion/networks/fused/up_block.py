"""The blocks of the UNet's second half, which take the first half's skips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from torch import Tensor, nn

from swiftdiffusion.networks.fused.convolution import Upsample
from swiftdiffusion.networks.fused.resnet import ResnetBlock
from swiftdiffusion.networks.fused.transformer import Transformer


class UpBlock(nn.Module):
    """diffusers' ``CrossAttnUpBlock2D`` or ``UpBlock2D`` of fused layers, whose skips are read where they lie."""

    has_cross_attention = True  # called as such a block, also where it has none

    def __init__(self, block: CrossAttnUpBlock2D | UpBlock2D) -> None:
        super().__init__()
        self.resnets = block.resnets
        self.attentions = getattr(block, "attentions", None)
        self.upsamplers = block.upsamplers

    @staticmethod
    def fits(block: CrossAttnUpBlock2D | UpBlock2D) -> bool:
        """Whether all its layers have been exchanged for fused ones."""
        attentions, upsamplers = getattr(block, "attentions", None) or [], block.upsamplers or []
        return (
            all(isinstance(resnet, ResnetBlock) and resnet.conv_shortcut is not None for resnet in block.resnets)
            and all(isinstance(attention, Transformer) for attention in attentions)
            and all(isinstance(upsampler, Upsample) for upsampler in upsamplers)
        )

    def forward(
        self,
        hidden: Tensor,
        skips: tuple[Tensor, ...],
        shifts: Mapping[nn.Module, Tensor],
        encoder_hidden_states: Mapping[nn.Module, Any],
        upsample_size: tuple[int, int] | None,
    ) -> Tensor:
        """hidden and skips [batch, channels, h, w] channels last, the last skip first; the mappings by `FusedSteering`.

        `upsample_size` is that of the result where it is not the double.
        """
        given = encoder_hidden_states
        for place, resnet in enumerate(self.resnets):
            hidden = resnet(hidden, shifts, skips[-1 - place])
            if self.attentions is not None:
                (hidden,) = self.attentions[place](hidden, given)
        for upsampler in self.upsamplers or ():
            hidden = upsampler(hidden, upsample_size, given[upsampler])
        return hidden
