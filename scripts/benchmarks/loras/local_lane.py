"""A whole lane of `shapes` and its services in this process, called as a server would call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapes.checkpoint import pipeline_folder
from swiftdiffusion.configuration import Location
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.lane import Lane
from swiftdiffusion.lane_configuration import LaneConfiguration
from swiftdiffusion.placement import Placement, choose_placement
from swiftdiffusion.request.result import Picture
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService
from swiftdiffusion.signature import Arrays, Signature

MEBIBYTE = 2**20


class LocalLane:
    """Draws pictures of 128 x 128 pixels with the LoRAs of one store."""

    def __init__(
        self, adapters: Path | str, cache_bytes: int = 2**30, placement: Placement | None = None, **store: Any
    ) -> None:
        """Open the store.

        Args:
            adapters: a folder or an address.
            cache_bytes: of the lane's host cache, rounded up to MiB.
            placement: where; by default on the first GPU in fp16, else on the CPU in fp32.
            store: further parameters of a model with LoRAs.
        """
        placement = placement or choose_placement("auto", "auto", "MODEL", 0)
        common: dict[str, Any] = {"pipeline": pipeline_folder(), "adapters": Location(adapters), **store}
        self._text_encoder = TextEncoderService(TextEncoderConfiguration(**common), placement)
        services: dict[str, Any] = {
            "text_encoder": self._text_encoder,
            "vae_decoder": VaeDecoderService(VaeDecoderConfiguration(pipeline_folder()), placement),
        }
        self._threads = ThreadPoolExecutor(2)
        configuration = LaneConfiguration(
            **common, width=128, height=128, size_min=64, size_max=256, guidance_scale=3.0,
            lora_cache_mb=-(-cache_bytes // MEBIBYTE),
        )  # fmt: skip

        def call(model: str, _: Signature, inputs: Arrays) -> Future[dict[str, NDArray[Any]]]:
            return self._threads.submit(services[model].answer, inputs)

        self._lane = Lane(configuration, placement, call, Catalogue(call, list, bool, "controlnet_", timeout_s=2))

    def __enter__(self) -> LocalLane:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def draw(self, request: Mapping[str, Sequence[Any]], when_accepted: Callable[[], None] = lambda: None) -> Picture:
        """Draw one picture; `request` has plain values by input, `when_accepted` is called once they are checked."""
        accepted = self._lane.accept({name: make_array(values) for name, values in request.items() if values})
        when_accepted()
        return self._lane.draw(accepted, lambda: None, None)

    def close(self) -> None:
        """End the threads."""
        self._lane.close()
        self._text_encoder.close()
        self._threads.shutdown()


def make_array(values: Sequence[Any]) -> NDArray[Any]:
    """As Triton gives an input: texts as objects of bytes, floats in fp32."""
    if isinstance(values[0], str):
        return np.array([value.encode() for value in values], object)
    return np.array(values, np.float32 if isinstance(values[0], float) else None)
