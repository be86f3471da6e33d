"""Engines: networks made ready for one device, all called alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from swiftdiffusion.engines.cuda_graph_engine import CudaGraphEngine
from swiftdiffusion.engines.session import Session
from swiftdiffusion.engines.tensorrt.engine import TensorRtEngine
from swiftdiffusion.engines.torch_engine import TorchEngine
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.network import Network
from swiftdiffusion.placement import Placement


class Engine(Protocol):
    """A network on its device: call it, read its weights' names, change its weights.

    Inputs that are steady (see `Network`) must not be written between two calls that pass the same tensor.
    """

    def __call__(self, *inputs: Any) -> Any:
        """Run the network; inputs and outputs as the network's ``forward`` has them."""

    def open(self, *inputs: Any) -> Session:
        """Begin a picture's steps on these inputs, of which only the steady ones stay; see `Session`."""

    def require_size(self, batch: int, height: int, width: int) -> None:
        """Raise `InvalidArgument` for a batch of pictures of so many pixels that it was not made for."""

    def parameters(self) -> Mapping[str, Tensor]:
        """The live weights by the names that they have in the checkpoint; written in order with the calls."""

    def weights_changed(self, names: Collection[str]) -> None:
        """Say that these live weights were written; what runs next sees them, and what ran before did not."""


@torch.inference_mode()
def refit(engine: Engine, weights: Mapping[str, Tensor]) -> None:
    """Overwrite an engine's named weights, in order with its calls; LoRAs go the same way, by one kernel."""
    live = engine.parameters()
    for name, weight in weights.items():
        live[name].copy_(weight, non_blocking=True)
    engine.weights_changed(weights)


KINDS: dict[str, Callable[[Network, Placement, int], Engine]] = {"torch": TorchEngine, "cuda_graph": CudaGraphEngine}


def make_engine(
    kind: str, network: Network, placement: Placement, *, captures: int = 1, plan: Path | None = None
) -> Engine:
    """Make `network` ready on `placement`.

    Args:
        kind: a key of `KINDS`, ``tensorrt``, or ``auto`` for the best there is.
        network: what is to run; it is the engine's from then on.
        placement: where it runs.
        captures: how many shapes of its inputs are kept by an engine that is made for shapes.
        plan: the network's plan for TensorRT, where ``scripts/build`` made one.

    Raises:
        InvalidArgument: a kind that does not exist or cannot run there, or a plan that is missing or stale.
        Unavailable: TensorRT is asked for and not installed, or not for this GPU.
    """
    if kind == "auto":
        kind = "tensorrt" if plan else "cuda_graph" if placement.device.type == "cuda" else "torch"
    if kind == "tensorrt":
        if plan is None:
            raise InvalidArgument(
                "parameter 'engine' is 'tensorrt', which needs parameter 'plans': the folder that `scripts/build` made"
            )
        return TensorRtEngine(network, placement, plan)
    if kind not in KINDS:
        raise InvalidArgument(f"parameter 'engine' is {kind!r}; allowed: auto, {', '.join(KINDS)}, tensorrt")
    return KINDS[kind](network, placement, captures)
