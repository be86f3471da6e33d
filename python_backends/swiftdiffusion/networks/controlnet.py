"""A ControlNet as a network: the reference image and the UNet's inputs in, residuals out."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ControlNetModel
from torch import Tensor

from swiftdiffusion.networks.network import Network


class ControlNet(Network):
    """diffusers' ``ControlNetModel`` with its residuals laid one after the other in one tensor."""

    prefix = "model."

    def __init__(self, model: ControlNetModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        prompt_embeds: Tensor,
        pooled: Tensor,
        time_ids: Tensor,
        image: Tensor,
    ) -> Tensor:
        """Compute unscaled residuals.

        Args:
            sample: [batch, 4, h, w], the same that the UNet takes.
            timestep: scalar.
            prompt_embeds: [batch, tokens, width].
            pooled: [batch, pooled width].
            time_ids: [batch, 6].
            image: [1, 3, height, width] in pixels, values 0 to 1.

        Returns:
            [elements]: the residual of each UNet skip, then of the mid block, each [batch, c, h, w], flattened.
        """
        down, mid = self.model(
            sample,
            timestep,
            encoder_hidden_states=prompt_embeds,
            controlnet_cond=image.expand(sample.shape[0], -1, -1, -1),
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )
        return torch.cat([residual.flatten() for residual in (*down, mid)])


def load_controlnet(folder: Path, dtype: torch.dtype) -> ControlNet:
    """Read a ControlNet's diffusers folder (safetensors only)."""
    model = ControlNetModel.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True)
    return ControlNet(model)
