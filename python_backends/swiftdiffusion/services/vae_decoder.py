"""The VAE decoder's serving side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from swiftdiffusion.configuration import require_range
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.vae_decoder import load_vae_decoder, read_latent_extent, to_pixels
from swiftdiffusion.placement import NetworkConfiguration, Placement
from swiftdiffusion.request.inputs import Inputs


@dataclass(frozen=True)
class VaeDecoderConfiguration(NetworkConfiguration):
    """The `vae` backend's parameters."""

    pipeline: Path
    size_max: int = 2048  # pixels on a side

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("size_max", self.size_max, 8, 65_536)


class VaeDecoderService:
    """A pipeline's VAE decoder."""

    def __init__(self, configuration: VaeDecoderConfiguration, placement: Placement) -> None:
        network = load_vae_decoder(configuration.pipeline, placement.dtype)
        self._placement = placement
        self._engine = make_engine(
            configuration.engine,
            network,
            placement,
            captures=configuration.captures,
            plan=configuration.plan("vae_decoder"),
        )
        channels, scale = read_latent_extent(configuration.pipeline)
        side = (1, configuration.size_max // scale)
        self._sides = ((1, 1), (channels, channels), side, side)
        for height, width in configuration.warm_up_sizes:
            self._engine(self._place(np.zeros((1, channels, height // scale, width // scale), np.float32)))

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Decode one picture; inputs and outputs as in `contracts.VAE_DECODER`.

        Raises:
            InvalidArgument: latents of another base model, or of a larger picture than is allowed.
        """
        latents = Inputs(inputs).array("latents", *self._sides)
        start = time.perf_counter()
        pixels = to_pixels(self._engine(self._place(latents)))[0].cpu().numpy()
        return {"pixels": pixels, "ran": np.array([start, time.perf_counter()])}

    def close(self) -> None:
        """Nothing to let go of."""

    def _place(self, latents: NDArray[Any]) -> torch.Tensor:
        return torch.tensor(latents, device=self._placement.device, dtype=self._placement.dtype)
