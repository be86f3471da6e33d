"""A VAE decoder whose activations are scaled down so that fp16 holds them.

SDXL's own decoder overflows fp16. But every layer of its residual stream is followed by a GroupNorm, which takes any
scale out again: multiplied by s, with the norms' eps by s², the stream gives the same picture. s is a power of two, so
no weight is rounded, save those that become smaller than fp16's normal numbers.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

SCALE = 2.0**-6  # activations up to 4 million fit


@torch.no_grad()
def scale_activations(decoder: Decoder, scale: float = SCALE) -> None:
    """Scale the residual stream and everything added to it, in place; the decoder's result stays what it was."""
    _scale(decoder.conv_in, scale)
    for module in decoder.modules():
        if isinstance(module, ResnetBlock2D):
            _scale(module.conv1, scale)
            _scale(module.conv2, scale)
            if module.conv_shortcut is not None:
                _scale_bias(module.conv_shortcut, scale)
            module.norm1.eps *= scale**2
            module.norm2.eps *= scale**2
        elif isinstance(module, Attention):
            _scale(module.to_out[0], scale)
            module.group_norm.eps *= scale**2
        elif isinstance(module, Upsample2D) and module.conv is not None:
            _scale_bias(module.conv, scale)
    decoder.conv_norm_out.eps *= scale**2


def _scale(layer: nn.Module, scale: float) -> None:
    layer.weight.mul_(scale)  # type: ignore[operator]
    _scale_bias(layer, scale)


def _scale_bias(layer: nn.Module, scale: float) -> None:
    if layer.bias is not None:
        layer.bias.mul_(scale)  # type: ignore[operator]
