"""Doubling a picture's sides and the convolution after it, as four convolutions of the small picture.

Of the nine pixels that a 3×3 convolution reads of a doubled picture, only four differ. For each of the four places
within a doubled pixel the weights that meet the same pixel are added beforehand, so that 4/9 of the products are left.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# rows (or columns) of a 3×3 kernel that meet the earlier and the later of two pixels, by the place in a doubled pixel
_MEETING = ((slice(0, 1), slice(1, 3)), (slice(0, 2), slice(2, 3)))


def add_taps(weight: Tensor) -> Tensor:
    """The weights that `upsample_convolve` takes, from those of a 3×3 convolution.

    Args:
        weight: [out, in, 3, 3].

    Returns:
        [4 out, 4 in]: for each place in a doubled pixel (upper left, upper right, …) the outputs, and for each of the
        four pixels that they read (in the same order) the inputs.
    """
    places = []
    for rows in _MEETING:
        for columns in _MEETING:
            pixels = [weight[:, :, row, column].sum((2, 3)) for row in rows for column in columns]
            places.append(torch.cat(pixels, dim=1))
    return torch.cat(places)


@torch.library.custom_op("swiftdiffusion::upsample_convolve", mutates_args=())
def upsample_convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Repeat every pixel twice in both directions, then convolve by 3×3 with one pixel of zeros around.

    Args:
        x: [batch, in, height, width].
        weight: [4 out, 4 in], of `add_taps`.
        bias: [out].

    Returns:
        [batch, out, 2 height, 2 width], channels last.
    """
    batch, channels, height, width = x.shape
    kernels = weight.view(weight.shape[0], 2, 2, channels).permute(0, 3, 1, 2)
    corners = functional.conv2d(x, kernels, padding=1)  # of every four neighbours, for all four places
    y = corners.new_empty((batch, bias.shape[0], height, 2, width, 2))
    for place, part in enumerate(corners.chunk(4, dim=1)):
        down, right = divmod(place, 2)
        y[:, :, :, down, :, right] = part[:, :, down : down + height, right : right + width]
    y = y.view(batch, bias.shape[0], 2 * height, 2 * width) + bias[:, None, None]
    return y.contiguous(memory_format=torch.channels_last)


@upsample_convolve.register_kernel("cuda")
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from swiftdiffusion_operators.kernels import upsample_convolve as kernel

    return kernel.run(x, weight, bias)


@upsample_convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    shape = (batch, bias.shape[0], 2 * height, 2 * width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
