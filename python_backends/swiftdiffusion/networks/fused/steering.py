"""What fused layers get beside the picture: of the prompt, of the time, and of their own weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from swiftdiffusion.networks.fused.attention import CrossAttention
from swiftdiffusion.networks.fused.convolution import Upsample
from swiftdiffusion.networks.fused.merging import merge
from swiftdiffusion.networks.fused.resnet import ResnetBlock
from swiftdiffusion.networks.fused.transformer import Transformer
from swiftdiffusion.networks.steering import Steering


class Prepared(NamedTuple):
    """What the steps of one picture share."""

    given: dict[nn.Module, Any]  # each cross-attention's keys and values, what others prepared of their weights
    bias: Tensor  # of all residual blocks' shifts


class FusedSteering(Steering):
    """The prompt as each cross-attention's keys and values; the time as each residual block's shift, in one product.

    What a picture's steps share of the layers' own weights is prepared with the prompt.
    """

    def __init__(self, network: nn.Module) -> None:
        self._attentions = [module for module in network.modules() if isinstance(module, CrossAttention)]
        self._blocks = [module for module in network.modules() if isinstance(module, ResnetBlock)]
        self._preparing = [module for module in network.modules() if isinstance(module, (Transformer, Upsample))]
        self._weight = merge([block.time_emb_proj.weight for block in self._blocks])

    def prepare(self, prompt_embeds: Tensor) -> Prepared:
        """Project the prompt [batch, tokens, width]."""
        bias = torch.cat([block.time_emb_proj.bias for block in self._blocks])
        bias = bias + torch.cat([block.conv1.bias for block in self._blocks])
        given: dict[nn.Module, Any] = {module: module.prepare() for module in self._preparing}
        return Prepared(given | {attention: attention.project(prompt_embeds) for attention in self._attentions}, bias)

    def prompt(self, prepared: Prepared, batch: int) -> Any:
        """Keys and values by attention, biases by transformer, taps by upsampling."""
        return prepared.given

    def time(self, embedding: Tensor, prepared: Prepared) -> Any:
        """Shifts [batch, channels] by residual block, the first convolution's bias in them."""
        shifts = functional.linear(functional.silu(embedding), self._weight, prepared.bias)
        parts = shifts.split([block.time_emb_proj.out_features for block in self._blocks], dim=1)
        return dict(zip(self._blocks, parts, strict=True))
