"""The UNet as two networks, so that ControlNets run beside the first half and feed the second.

The cut follows ``UNet2DConditionModel.forward`` of diffusers 0.42: everything up to and including the mid
block, then the up blocks. ControlNet residuals enter at the cut (ControlNet, arXiv 2302.05543, section 3.2).
Parameters keep the names that they have in diffusers' UNet, which is how LoRAs address them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.network import Network
from swiftdiffusion.networks.steering import Steering


class Encoder(Network):
    """Time and size embeddings, the down blocks and the mid block, which a ControlNet has too."""

    def __init__(self, model: UNet2DConditionModel | ControlNetModel) -> None:
        super().__init__()
        self.configuration = dict(model.config)
        self.conv_in = model.conv_in
        self.time_proj = model.time_proj
        self.time_embedding = model.time_embedding
        self.add_time_proj = model.add_time_proj
        self.add_embedding = model.add_embedding
        self.down_blocks = model.down_blocks
        self.mid_block = model.mid_block
        self.steering = Steering()
        self.latent_channels: int = model.config["in_channels"]
        self.prompt_width: int = model.config["cross_attention_dim"]
        sizes = 6 * model.config["addition_time_embed_dim"]
        self.pooled_width: int = model.config["projection_class_embeddings_input_dim"] - sizes
        self._skips = [(self.conv_in.out_channels, 0)]  # channels, and how often the sample has been halved
        for block in self.down_blocks:
            width, halvings = block.resnets[-1].out_channels, self._skips[-1][1]
            self._skips += [(width, halvings)] * len(block.resnets)
            if block.downsamplers:
                self._skips.append((width, halvings + 1))

    def count_residuals(self, batch: int, height: int, width: int) -> int:
        """How many values a ControlNet adds to the skips and the mid block of samples [batch, 4, height, width]."""
        tensors = [*self._skips, self._skips[-1]]
        return batch * sum(c * -(-height // 2**halvings) * -(-width // 2**halvings) for c, halvings in tensors)

    def embed_sizes(self, pooled: Tensor, time_ids: Tensor) -> Tensor:
        """Embed pooled [batch, pooled width] and time_ids [batch, 6] to [batch, width]."""
        sizes = self.add_time_proj(time_ids.flatten()).reshape(pooled.shape[0], -1)
        return self.add_embedding(torch.cat([pooled, sizes.to(pooled.dtype)], dim=-1))

    def embed_time(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Embed a scalar timestep to [batch, width]."""
        return self.time_embedding(self.time_proj(timestep.expand(sample.shape[0])).to(sample.dtype))

    def encode(self, hidden: Tensor, embedding: Tensor, prepared: Any) -> tuple[list[Tensor], Tensor]:
        """Run the blocks; returns the skips, in the order of the down blocks, and the mid block's output."""
        prompt, time = self.steering.prompt(prepared, hidden.shape[0]), self.steering.time(embedding, prepared)
        skips = [hidden]
        for block in self.down_blocks:
            if getattr(block, "has_cross_attention", False):
                hidden, states = block(hidden, time, encoder_hidden_states=prompt)
            else:
                hidden, states = block(hidden, time)
            skips.extend(states)
        return skips, self.mid_block(hidden, time, encoder_hidden_states=prompt)


class UNetEncoder(Encoder):
    """The UNet's first half.

    Called with

    - sample: [batch, 4, h, w], scaled for this timestep by the scheduler,
    - timestep: scalar,
    - prompt_embeds: [batch, tokens, width], or only the last samples', see `Steering`,
    - pooled: [batch, pooled width],
    - time_ids: [batch, 6], SDXL's size conditioning (arXiv 2307.01952, section 2.2),

    it returns the mid block's output, the time embedding [batch, width], then one skip for each input that the up
    blocks take, in the order of the down blocks.
    """

    steady = 3

    def prepare(self, prompt_embeds: Tensor, pooled: Tensor, time_ids: Tensor) -> Any:
        """The sizes' embedding and the prompt as the blocks take it."""
        return self.embed_sizes(pooled, time_ids), self.steering.prepare(prompt_embeds)

    def step(self, sample: Tensor, timestep: Tensor, prepared: Any) -> tuple[Tensor, ...]:
        """Encode a noisy sample."""
        sizes, prompt = prepared
        embedding = self.embed_time(sample, timestep) + sizes
        skips, mid = self.encode(self.conv_in(sample), embedding, prompt)
        return (mid, embedding, *skips)


class UNetDecoder(Network):
    """The up blocks and the output convolution; ControlNet residuals are inputs.

    Called with

    - mid: the mid block's output,
    - embedding: the time embedding [batch, width],
    - skips: as `UNetEncoder` returns them,
    - residuals: the ControlNets' sum, shaped as the skips and, last, as `mid`; None where no ControlNet acts,
    - prompt_embeds: as `UNetEncoder` takes them,

    it predicts the noise [batch, 4, h, w].
    """

    steady = 1

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.configuration = dict(unet.config)
        self.up_blocks = unet.up_blocks
        self.conv_norm_out = unet.conv_norm_out
        self.conv_act = unet.conv_act
        self.conv_out = unet.conv_out
        self.steering = Steering()

    def prepare(self, prompt_embeds: Tensor) -> Any:
        """The prompt as the blocks take it."""
        return self.steering.prepare(prompt_embeds)

    def step(
        self, mid: Tensor, embedding: Tensor, skips: Sequence[Tensor], residuals: Sequence[Tensor] | None, prepared: Any
    ) -> Tensor:
        """Decode, from the mid block's output up."""
        prompt, time = self.steering.prompt(prepared, mid.shape[0]), self.steering.time(embedding, prepared)
        hidden, states = mid, list(skips)
        if residuals is not None:
            hidden = mid + residuals[-1]
            states = [skip + residual for skip, residual in zip(skips, residuals[:-1], strict=True)]
        for block in self.up_blocks:
            count = len(block.resnets)
            taken, states = tuple(states[-count:]), states[:-count]
            # a sample that does not halve evenly grows back to the size that its next skip has
            size = states[-1].shape[2:] if states else None
            if getattr(block, "has_cross_attention", False):
                hidden = block(hidden, taken, time, encoder_hidden_states=prompt, upsample_size=size)
            else:
                hidden = block(hidden, taken, time, upsample_size=size)
        return self.conv_out(self.conv_act(self.conv_norm_out(hidden)))


def load_unet(folder: Path, dtype: torch.dtype) -> tuple[UNetEncoder, UNetDecoder]:
    """Read the UNet of a pipeline's folder (safetensors only).

    Returns:
        Its two halves on the CPU.

    Raises:
        InvalidArgument: a UNet with parts that SDXL's does not have.
    """
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype, use_safetensors=True)
    require_sdxl(dict(unet.config), "UNet")
    return UNetEncoder(unet), UNetDecoder(unet)


# what the halves and the fused layers know nothing of, and would leave out
FOREIGN = (
    "class_embed_type",
    "num_class_embeds",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
    "time_embedding_act_fn",
    "center_input_sample",
    "only_cross_attention",
    "mid_block_only_cross_attention",
    "dual_cross_attention",
)


def require_sdxl(config: dict, network: str) -> None:
    """Refuse a UNet or ControlNet with inputs or attentions that SDXL's does not have; raises InvalidArgument."""
    if config["addition_embed_type"] != "text_time":
        raise InvalidArgument(
            f"the {network}'s addition_embed_type is {config['addition_embed_type']!r}; SDXL's 'text_time' is served"
        )
    for part in FOREIGN:
        value = config.get(part)
        if any(value) if isinstance(value, (list, tuple)) else value:  # some are told for each block
            raise InvalidArgument(f"the {network}'s {part} is {value!r}; SDXL's has none")
