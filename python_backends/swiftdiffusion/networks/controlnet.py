"""A ControlNet as a network: the reference image and the UNet's inputs in, residuals out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.unet import Encoder, require_sdxl


class ControlNet(Encoder):
    """diffusers' ``ControlNetModel`` with its residuals laid one after the other in one tensor.

    Called with

    - sample: [batch, 4, h, w], the same that the UNet takes,
    - timestep: scalar,
    - prompt_embeds: [batch, tokens, width], or only the last samples', see `Steering`,
    - pooled: [batch, pooled width],
    - time_ids: [batch, 6],
    - image: [1, 3, height, width] in pixels, values 0 to 1,

    it returns [elements], unscaled: the residual of each UNet skip, then of the mid block, each flattened from
    [batch, h, w, c], the order in which a GPU computes them.
    """

    steady = 4

    def __init__(self, model: ControlNetModel) -> None:
        super().__init__(model)
        # its image's embedding halves a picture once less than it has widths
        self.pixels_a_latent = 2 ** (len(model.config["conditioning_embedding_out_channels"]) - 1)
        self.controlnet_cond_embedding = model.controlnet_cond_embedding
        self.controlnet_down_blocks = model.controlnet_down_blocks
        self.controlnet_mid_block = model.controlnet_mid_block

    def prepare(self, prompt_embeds: Tensor, pooled: Tensor, time_ids: Tensor, image: Tensor) -> Any:
        """The sizes' and the image's embeddings, and the prompt as the blocks take it."""
        image = self.controlnet_cond_embedding(image.expand(pooled.shape[0], -1, -1, -1))
        return self.embed_sizes(pooled, time_ids), image, self.steering.prepare(prompt_embeds)

    def step(self, sample: Tensor, timestep: Tensor, prepared: Any) -> Tensor:
        """Compute residuals."""
        sizes, image, prompt = prepared
        embedding = self.embed_time(sample, timestep) + sizes
        skips, mid = self.encode(self.conv_in(sample) + image, embedding, prompt)
        outputs = [*self.controlnet_down_blocks, self.controlnet_mid_block]
        residuals = [project(hidden) for project, hidden in zip(outputs, [*skips, mid], strict=True)]
        return torch.cat([residual.permute(0, 2, 3, 1).flatten() for residual in residuals])


def load_controlnet(folder: Path, dtype: torch.dtype) -> ControlNet:
    """Read a ControlNet's diffusers folder (safetensors only), to the CPU.

    Raises:
        InvalidArgument: one with parts that SDXL's do not have.
    """
    model = ControlNetModel.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True)
    config = dict(model.config)
    require_sdxl(config, "ControlNet")
    if config["controlnet_conditioning_channel_order"] != "rgb" or config["global_pool_conditions"]:
        raise InvalidArgument("the ControlNet takes its image as BGR or pools its residuals; SDXL's do neither")
    return ControlNet(model)
