"""The UNet as two networks, so that ControlNets run beside the first half and feed the second.

The cut follows ``UNet2DConditionModel.forward`` of diffusers 0.42: everything up to and including the mid
block, then the up blocks. ControlNet residuals enter at the cut (ControlNet, arXiv 2302.05543, section 3.2).
Parameters keep the names that they have in diffusers' UNet, which is how LoRAs address them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.network import Network


class UNetEncoder(Network):
    """Time and size embeddings, the down blocks and the mid block."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.conv_in = unet.conv_in
        self.time_proj = unet.time_proj
        self.time_embedding = unet.time_embedding
        self.add_time_proj = unet.add_time_proj
        self.add_embedding = unet.add_embedding
        self.down_blocks = unet.down_blocks
        self.mid_block = unet.mid_block

    def forward(
        self, sample: Tensor, timestep: Tensor, prompt_embeds: Tensor, pooled: Tensor, time_ids: Tensor
    ) -> tuple[Tensor, ...]:
        """Encode a noisy sample.

        Args:
            sample: [batch, 4, h, w], scaled for this timestep by the scheduler.
            timestep: scalar.
            prompt_embeds: [batch, tokens, width].
            pooled: [batch, pooled width].
            time_ids: [batch, 6], SDXL's size conditioning (arXiv 2307.01952, section 2.2).

        Returns:
            The mid block's output, the time embedding [batch, width], then one skip for each input that
            the up blocks take, in the order of the down blocks.
        """
        batch = sample.shape[0]
        embedding = self.time_embedding(self.time_proj(timestep.expand(batch)).to(sample.dtype))
        sizes = self.add_time_proj(time_ids.flatten()).reshape(batch, -1)
        embedding = embedding + self.add_embedding(torch.cat([pooled, sizes], dim=-1).to(embedding.dtype))

        hidden = self.conv_in(sample)
        skips = [hidden]
        for block in self.down_blocks:
            if getattr(block, "has_cross_attention", False):
                hidden, states = block(hidden, embedding, encoder_hidden_states=prompt_embeds)
            else:
                hidden, states = block(hidden, embedding)
            skips.extend(states)
        mid = self.mid_block(hidden, embedding, encoder_hidden_states=prompt_embeds)
        return (mid, embedding, *skips)


class UNetDecoder(Network):
    """The up blocks and the output convolution; ControlNet residuals are inputs."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.up_blocks = unet.up_blocks
        self.conv_norm_out = unet.conv_norm_out
        self.conv_act = unet.conv_act
        self.conv_out = unet.conv_out

    def forward(
        self,
        mid: Tensor,
        embedding: Tensor,
        prompt_embeds: Tensor,
        skips: list[Tensor],
        residuals: list[Tensor],
    ) -> Tensor:
        """Predict the noise [batch, 4, h, w].

        Args:
            mid: the mid block's output.
            embedding: the time embedding [batch, width].
            prompt_embeds: [batch, tokens, width].
            skips: as `UNetEncoder` returns them.
            residuals: the ControlNets' sum, shaped as the skips and, last, as `mid`; zeros for none.
        """
        hidden = mid + residuals[-1]
        states = [skip + residual for skip, residual in zip(skips, residuals[:-1], strict=True)]
        for block in self.up_blocks:
            count = len(block.resnets)
            taken, states = tuple(states[-count:]), states[:-count]
            # a sample that does not halve evenly grows back to the size that its next skip has
            size = states[-1].shape[2:] if states else None
            if getattr(block, "has_cross_attention", False):
                hidden = block(hidden, taken, embedding, encoder_hidden_states=prompt_embeds, upsample_size=size)
            else:
                hidden = block(hidden, taken, embedding, upsample_size=size)
        return self.conv_out(self.conv_act(self.conv_norm_out(hidden)))


def load_unet(folder: Path, dtype: torch.dtype) -> tuple[UNetEncoder, UNetDecoder, dict]:
    """Read the UNet of a pipeline's folder (safetensors only).

    Returns:
        Its two halves on the CPU, and its diffusers configuration.

    Raises:
        InvalidArgument: a UNet with parts that SDXL's does not have.
    """
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype, use_safetensors=True)
    config = dict(unet.config)
    if config["addition_embed_type"] != "text_time":
        raise InvalidArgument(
            f"the UNet's addition_embed_type is {config['addition_embed_type']!r}; SDXL's 'text_time' is served"
        )
    for part in ("class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim", "time_embedding_act_fn"):
        if config.get(part) is not None:
            raise InvalidArgument(f"the UNet's {part} is {config[part]!r}; SDXL's has none")
    return UNetEncoder(unet), UNetDecoder(unet), config
