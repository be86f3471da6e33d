"""A convolution, its bias and the residual after it, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op("swiftdiffusion::convolve", mutates_args=())
def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None, stride: int = 1,
    padding: int = 1,
) -> Tensor:  # fmt: skip
    """Convolve with zeros around, then add what is there.

    Args:
        x: [batch, in, height, width].
        weight: [out, in, kernel height, kernel width].
        bias: [out], or None.
        residual: shaped as the result, or None.
        stride: in both directions.
        padding: zeros on each side.

    Returns:
        [batch, out, its height, its width], channels last.
    """
    y = functional.conv2d(x, weight, bias, stride, padding)
    return (y if residual is None else y + residual).contiguous(memory_format=torch.channels_last)


@convolve.register_kernel("cuda")
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None, stride: int = 1,
    padding: int = 1,
) -> Tensor:  # fmt: skip
    from swiftdiffusion_operators.kernels import add_bias
    from swiftdiffusion_operators.kernels import convolve as kernel

    if kernel.fits(x, weight, stride, padding, adds=bias is not None or residual is not None):
        return kernel.run(x, weight, bias, residual)
    if weight.shape[2:] == (1, 1) and stride == 1 and padding == 0:
        pixels = functional.linear(x.permute(0, 2, 3, 1), weight.flatten(1))  # faster than a convolution by so little
    else:
        pixels = functional.conv2d(x, weight, None, stride, padding).permute(0, 2, 3, 1).contiguous()
    if bias is not None:  # torch would add it in a slow pass of its own
        pixels = add_bias.run(pixels, bias, None if residual is None else residual.permute(0, 2, 3, 1))
    elif residual is not None:
        pixels = pixels + residual.permute(0, 2, 3, 1)
    return pixels.permute(0, 3, 1, 2)


@convolve.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None, stride: int = 1,
    padding: int = 1,
) -> Tensor:  # fmt: skip
    sides = [
        (side + 2 * padding - kernel) // stride + 1 for side, kernel in zip(x.shape[2:], weight.shape[2:], strict=True)
    ]
    shape = (x.shape[0], weight.shape[0], *sides)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
