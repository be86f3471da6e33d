"""Exchange a network's layers for fused ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.fused.convolution import Convolution, Upsample
from swiftdiffusion.networks.fused.norm import GroupNormSiLU
from swiftdiffusion.networks.fused.resnet import ResnetBlock
from swiftdiffusion.networks.fused.steering import FusedSteering
from swiftdiffusion.networks.fused.transformer import Transformer
from swiftdiffusion.networks.fused.up_block import UpBlock
from swiftdiffusion.networks.fused.vae_attention import VaeAttention
from swiftdiffusion.networks.network import Network
from swiftdiffusion.networks.unet import Encoder, UNetDecoder


def fuse(network: Network) -> None:
    """Exchange, in place, every layer that has a fused form; call it once the network is where it will run.

    Moving the network afterwards would part the merged weights from the named ones that are views of them.

    Raises:
        InvalidArgument: a UNet or ControlNet with a residual block of another kind than SDXL's.
    """
    _exchange(network, ResnetBlock2D, ResnetBlock, ResnetBlock.fits)
    _exchange(network, Transformer2DModel, Transformer, lambda _: True)
    _exchange(
        network, Attention, VaeAttention, lambda attention: attention.heads == 1 and attention.residual_connection
    )
    _exchange(network, Upsample2D, Upsample, Upsample.fits)
    _exchange(network, nn.Conv2d, Convolution, Convolution.fits)
    for kind in (CrossAttnUpBlock2D, UpBlock2D):
        _exchange(network, kind, UpBlock, UpBlock.fits)
    for module in network.modules():
        norm = getattr(module, "conv_norm_out", None)
        if isinstance(norm, nn.GroupNorm):
            module.conv_norm_out = GroupNormSiLU(norm)
            module.conv_act = nn.Identity()
    if isinstance(network, (Encoder, UNetDecoder)):
        if any(isinstance(module, ResnetBlock2D) for module in network.modules()):  # cannot take what steering gives
            raise InvalidArgument(
                "the network has residual blocks of another kind than SDXL's, which engine 'cuda_graph' does not run; "
                "allowed for it: torch"
            )
        network.steering = FusedSteering(network)


def _exchange(
    network: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module], fits: Callable[[Any], bool]
) -> None:
    for module in list(network.modules()):
        if isinstance(module, ResnetBlock):
            continue  # it has its own ways with its layers
        for name, child in list(module.named_children()):
            if isinstance(child, kind) and fits(child):
                setattr(module, name, make(child))
