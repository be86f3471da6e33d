"""The residual block of the UNet, the ControlNet and the VAE."""

from __future__ import annotations

from typing import Any

from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from swiftdiffusion.networks.fused.layout import from_pixels, to_pixels
from swiftdiffusion.networks.fused.norm import GroupNormSiLU
from swiftdiffusion_operators import convolve


class ResnetBlock(nn.Module):
    """diffusers' ``ResnetBlock2D`` with six passes over the picture less.

    The first convolution's bias and the time embedding enter the second GroupNorm as its shift; the second
    convolution adds its bias and the residual itself.
    """

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.norm2 = GroupNormSiLU(block.norm1), GroupNormSiLU(block.norm2)
        self.conv1, self.conv2 = block.conv1, block.conv2
        self.time_emb_proj, self.conv_shortcut = block.time_emb_proj, block.conv_shortcut

    @staticmethod
    def fits(block: ResnetBlock2D) -> bool:
        """Whether the block is of the plain kind that SDXL has."""
        return (
            (block.time_embedding_norm == "default" or block.time_emb_proj is None)
            and isinstance(block.norm2, nn.GroupNorm)
            and block.upsample is None
            and block.downsample is None
            and block.output_scale_factor == 1
            and not block.skip_time_act
            and isinstance(block.nonlinearity, nn.SiLU)
        )

    def forward(self, x: Tensor, temb: Any = None, skip: Tensor | None = None) -> Tensor:
        """x [batch, channels, h, w] channels last; `temb` what `FusedSteering.time` gave, None in the VAE.

        `skip` holds the channels after those of `x`, if `x` does not hold all.
        """
        if temb is None:
            shift = self.conv1.bias.expand(x.shape[0], -1)
        else:
            shift = temb[self]
        hidden = convolve(self.norm1(x, beside=skip), self.conv1.weight)
        return convolve(self.norm2(hidden, shift), self.conv2.weight, self.conv2.bias, self._shorten(x, skip))

    def _shorten(self, x: Tensor, skip: Tensor | None) -> Tensor:
        if self.conv_shortcut is None:
            return x
        weight, bias, seam = self.conv_shortcut.weight, self.conv_shortcut.bias, x.shape[1]
        shortened = from_pixels(functional.linear(to_pixels(x), weight[:, :seam].flatten(1), bias))
        return shortened if skip is None else convolve(skip, weight[:, seam:], None, shortened, padding=0)
