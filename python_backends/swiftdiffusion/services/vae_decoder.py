"""The VAE decoder's serving side."""

from __future__ import annotations

import logging
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
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.vae_decoder import load_vae_decoder, read_latent_extent, to_pixels
from swiftdiffusion.placement import NetworkConfiguration, Placement
from swiftdiffusion.request.images import JPEG_QUALITY
from swiftdiffusion.request.inputs import Inputs
from swiftdiffusion.services.nvjpeg import JpegEncoder, find_nvjpeg


@dataclass(frozen=True)
class VaeDecoderConfiguration(NetworkConfiguration):
    """The `vae` backend's parameters."""

    pipeline: Path
    size_max: int = 2048  # pixels on a side
    jpeg_encoder: str = "auto"  # gpu, or host: by whoever asked; auto is the GPU where that can

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("size_max", self.size_max, 8, 65_536)
        if self.jpeg_encoder not in ("auto", "gpu", "host"):
            raise InvalidArgument(f"parameter 'jpeg_encoder' is {self.jpeg_encoder!r}; allowed: auto, gpu, host")


class VaeDecoderService:
    """A pipeline's VAE decoder."""

    def __init__(self, configuration: VaeDecoderConfiguration, placement: Placement) -> None:
        """Raises InvalidArgument where JPEGs have to be encoded on a GPU and cannot."""
        self._write_jpeg = _choose_encoder(configuration.jpeg_encoder, placement.device)
        network = load_vae_decoder(configuration.pipeline, placement.dtype)
        self._placement = placement
        self._engine = make_engine(
            configuration.engine,
            network,
            placement,
            captures=2 * configuration.captures,  # each picture's size has its previews'
            plan=configuration.plan("vae_decoder"),
        )
        channels, scale = read_latent_extent(configuration.pipeline)
        side = (1, configuration.size_max // scale)
        self._sides = ((1, 1), (channels, channels), side, side)
        for height, width in configuration.warm_up_sizes:
            latents = np.zeros((1, channels, height // scale, width // scale), np.float32)
            self.answer({"latents": latents, "jpeg_quality": np.array([JPEG_QUALITY])})

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Decode one picture; inputs and outputs as in `contracts.VAE_DECODER`.

        Raises:
            InvalidArgument: latents of another base model, or of a larger picture than is allowed.
        """
        asked = Inputs(inputs)
        latents, quality = asked.array("latents", *self._sides), asked.integer("jpeg_quality", 0, 0, 100)
        start = time.perf_counter()
        pixels = to_pixels(self._engine(self._place(latents)))[0]
        if quality and self._write_jpeg is not None:
            torch.cuda.current_stream(pixels.device).synchronize()
            ran = np.array([start, time.perf_counter()])
            try:
                return {"jpeg": self._write_jpeg(pixels, quality), "ran": ran}
            except RuntimeError as error:  # of memory that nvJPEG lacks, say
                logging.getLogger("swiftdiffusion").warning("a JPEG is left to the host: %s", error)
        return {"pixels": pixels.cpu().numpy(), "ran": np.array([start, time.perf_counter()])}

    def close(self) -> None:
        """Nothing to let go of."""

    def _place(self, latents: NDArray[Any]) -> torch.Tensor:
        return torch.tensor(latents, device=self._placement.device, dtype=self._placement.dtype)


def _choose_encoder(parameter: str, device: torch.device) -> JpegEncoder | None:
    if parameter == "host" or (parameter == "auto" and device.type != "cuda"):
        return None
    try:
        return find_nvjpeg(device)
    except InvalidArgument as reason:
        if parameter == "gpu":
            raise InvalidArgument(f"parameter 'jpeg_encoder' is 'gpu', but {reason}; else: auto, host") from None
        logging.getLogger("swiftdiffusion").warning("JPEGs are encoded on the host: %s", reason)
        return None
