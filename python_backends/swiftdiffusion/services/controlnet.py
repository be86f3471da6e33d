"""A ControlNet's serving side: the UNet's inputs and a reference image to residuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from swiftdiffusion.denoising.conditioning import blank
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.placement import NetworkConfiguration, Placement


@dataclass(frozen=True)
class ControlNetConfiguration(NetworkConfiguration):
    """The `controlnet` backend's parameters."""

    controlnet: Path  # a diffusers folder
    prompt_tokens: int = 77  # of the prompts to warm up for


class ControlNetService:
    """One ControlNet, shared by every UNet of its base model."""

    def __init__(self, configuration: ControlNetConfiguration, placement: Placement) -> None:
        plan = f"controlnet_{configuration.controlnet.name}"
        network = load_controlnet(configuration.controlnet, placement.dtype)
        self._placement = placement
        self._engine = make_engine(
            configuration.engine, network, placement, captures=configuration.captures, plan=configuration.plan(plan)
        )
        for height, width in configuration.warm_up_sizes:
            empty = blank(network, configuration.prompt_tokens, height, width, placement)
            latents = (height // network.pixels_a_latent, width // network.pixels_a_latent)
            sample = empty.pooled.new_zeros((empty.batch, network.latent_channels, *latents))
            image = empty.pooled.new_zeros((1, 3, height, width))
            self._engine(sample, sample.new_ones(()), empty.prompt_embeds, empty.pooled, empty.time_ids, image)

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Residuals of one denoising step; inputs and outputs as in `contracts.CONTROLNET`."""
        image = self._place(inputs["image"]).permute(2, 0, 1).unsqueeze(0) / 255
        timestep = self._place(inputs["timestep"])[0]
        residuals = self._engine(
            self._place(inputs["sample"]),
            timestep,
            self._place(inputs["prompt_embeds"]),
            self._place(inputs["pooled"]),
            self._place(inputs["time_ids"]),
            image,
        )
        return {"residuals": residuals.float().cpu().numpy()}

    def close(self) -> None:
        """Nothing to let go of."""

    def _place(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.tensor(array, device=self._placement.device, dtype=self._placement.dtype)
