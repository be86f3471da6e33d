"""Convolutions outside the residual blocks, and the doubling before some."""

from __future__ import annotations

from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional

from swiftdiffusion.networks.fused.layout import from_pixels, to_pixels
from swiftdiffusion_operators import add_taps, convolve, upsample_convolve, upsample_nearest


class Convolution(nn.Module):
    """A convolution and its bias, by the fused operator; over single pixels it is a product."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding = conv.stride, conv.padding

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, channels, h, w] channels last, and so is what it returns."""
        if self.weight.shape[2:] == (1, 1):
            return from_pixels(functional.linear(to_pixels(x), self.weight.flatten(1), self.bias))
        return convolve(x, self.weight, self.bias, None, self.stride[0], self.padding[0])

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether it is one of the plain kind."""
        even = len(set(conv.stride)) == len(set(conv.padding)) == 1 and conv.padding_mode == "zeros"
        return even and conv.bias is not None and conv.groups == 1 and conv.dilation == (1, 1)


class Upsample(nn.Module):
    """diffusers' ``Upsample2D``: doubled, then convolved."""

    def __init__(self, upsample: Upsample2D) -> None:
        super().__init__()
        self.conv = upsample.conv

    @staticmethod
    def fits(upsample: Upsample2D) -> bool:
        """Whether it is of the kind that SDXL has."""
        plain = upsample.use_conv and upsample.interpolate and not upsample.use_conv_transpose
        return plain and upsample.norm is None and upsample.name == "conv"

    def prepare(self) -> Tensor | None:
        """What `forward` takes as `taps`, from the live weights; None where the convolution is another."""
        conv = self.conv
        plain = isinstance(conv, Convolution) and conv.weight.shape[2:] == (3, 3)
        return add_taps(conv.weight) if plain and conv.stride == conv.padding == (1, 1) else None

    def forward(self, x: Tensor, size: tuple[int, int] | None = None, taps: Tensor | None = None) -> Tensor:
        """x [batch, channels, h, w] channels last; `size` is that of the result where it is not the double.

        With `taps`, less than half of the products are computed.
        """
        if size is not None and tuple(size) != (2 * x.shape[2], 2 * x.shape[3]):
            return self.conv(functional.interpolate(x, size=size))
        if taps is None:
            return self.conv(upsample_nearest(x))
        return upsample_convolve(x, taps, self.conv.bias)
