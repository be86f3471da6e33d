"""The VAE decoder's serving side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.vae_decoder import load_vae_decoder, to_pixels
from swiftdiffusion.placement import NetworkConfiguration, Placement


@dataclass(frozen=True)
class VaeDecoderConfiguration(NetworkConfiguration):
    """The `vae` backend's parameters."""

    pipeline: Path


class VaeDecoderService:
    """A pipeline's VAE decoder, kept in fp32 where fp16 would overflow."""

    def __init__(self, configuration: VaeDecoderConfiguration, placement: Placement) -> None:
        network, dtype = load_vae_decoder(configuration.pipeline, placement.dtype)
        self._placement = Placement(placement.device, dtype)
        self._engine = make_engine(configuration.engine, network, self._placement, configuration.plan("vae_decoder"))

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Decode one picture; inputs and outputs as in `contracts.VAE_DECODER`."""
        latents = torch.tensor(inputs["latents"], device=self._placement.device, dtype=self._placement.dtype)
        return {"pixels": to_pixels(self._engine(latents))[0].cpu().numpy()}

    def close(self) -> None:
        """Nothing to let go of."""
