"""From a request to diffusers' pipeline and back, for the backend that is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from benchmarks.serving.pipelines.hot_swapping import HotSwappingDiffusers
from benchmarks.serving.pipelines.stock import StockDiffusers
from benchmarks.serving.systems import BEST
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.placement import choose_placement
from swiftdiffusion.request.answer import encode_picture
from swiftdiffusion.request.limits import Limits
from swiftdiffusion.request.parse import parse_request
from swiftdiffusion.request.ports import PICTURE_MODEL
from swiftdiffusion.request.result import Picture
from swiftdiffusion.signature import Arrays, declare
from swiftdiffusion.triton_bridge.bridge import Bridge


@dataclass(frozen=True, kw_only=True)
class DiffusersConfiguration(Limits):
    """The model's parameters."""

    system: str  # stock or best
    pipeline: Path
    controlnets: str  # folders, with commas between
    adapters: Path
    compiles: bool


def declare_ports(config: Any) -> Any:
    """Write the inputs and outputs of `swiftdiffusion` into Triton's configuration."""
    return declare(config, PICTURE_MODEL)


class DiffusersModel:
    """A pipeline with its ControlNets in memory, drawing one request at a time."""

    def __init__(self, bridge: Bridge) -> None:
        self._configuration = configuration = bridge.configure(DiffusersConfiguration)
        place = choose_placement("auto", "auto", *bridge.instance)
        controlnets = {Path(path).name: Path(path) for path in configuration.controlnets.split(",")}
        if place.device.type == "cuda":
            torch.cuda.set_device(place.device)
        if configuration.system == BEST:
            self._pipeline: StockDiffusers = HotSwappingDiffusers(
                configuration.pipeline, controlnets, configuration.adapters, place, configuration.compiles
            )
        else:
            self._pipeline = StockDiffusers(configuration.pipeline, controlnets, configuration.adapters, place)

    def answer(self, tensors: Arrays) -> dict[str, NDArray[Any]]:
        """The request's picture and `info`, as `swiftdiffusion` answers."""
        stopwatch = Stopwatch()
        request = parse_request(tensors, self._configuration, lambda wanted: self._pipeline.controlnet_names)
        pixels = self._pipeline.draw(request, stopwatch)
        return encode_picture(Picture(request, {"pixels": pixels}, [], [], False, stopwatch.report()))
