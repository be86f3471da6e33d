"""A whole lane of `shapes` and its services in this process, called as a server would call them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapes.checkpoint import pipeline_folder
from swiftdiffusion.configuration import Location
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.lane import Lane, LaneConfiguration
from swiftdiffusion.placement import choose_placement
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService
from swiftdiffusion.signature import Arrays, Signature

MEBIBYTE = 2**20


class LocalLane:
    """Draws pictures of 128 x 128 pixels with the LoRAs of one folder."""

    def __init__(self, adapters: Path, cache_bytes: int) -> None:
        """`cache_bytes` is the lane's host cache, rounded up to MiB."""
        placement = choose_placement("auto", "auto", "MODEL", 0)
        pipeline, location = pipeline_folder(), Location(adapters)
        services: dict[str, Any] = {
            "text_encoder": TextEncoderService(
                TextEncoderConfiguration(pipeline=pipeline, adapters=location), placement
            ),
            "vae_decoder": VaeDecoderService(VaeDecoderConfiguration(pipeline), placement),
        }
        self._text_encoder = services["text_encoder"]
        self._threads = ThreadPoolExecutor(2)
        configuration = LaneConfiguration(
            pipeline=pipeline, adapters=location, width=128, height=128, size_min=64, size_max=256, guidance_scale=3.0,
            lora_cache_mb=-(-cache_bytes // MEBIBYTE),
        )  # fmt: skip

        def call(model: str, _: Signature, inputs: Arrays) -> Future[dict[str, NDArray[Any]]]:
            return self._threads.submit(services[model].answer, inputs)

        self._lane = Lane(configuration, placement, call, Catalogue(call, list, bool, "controlnet_", timeout_s=2))

    def draw(self, prompt: str, seed: int, loras: Sequence[str], steps: int) -> dict[str, Any]:
        """Draw one picture at the default bound and give its ``info``."""
        tensors: dict[str, Any] = {
            "prompt": np.array([prompt.encode()], object),
            "seed": np.array([seed]),
            "steps": np.array([steps]),
        }
        if loras:
            tensors["loras"] = np.array([name.encode() for name in loras], object)
        return self._lane.draw(self._lane.accept(tensors), lambda: None, None).describe()

    def close(self) -> None:
        """End the threads."""
        self._lane.close()
        self._text_encoder.close()
        self._threads.shutdown()
