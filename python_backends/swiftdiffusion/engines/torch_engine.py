"""The engine for any device: torch, eager."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.engines.session import Session, SimpleSession
from swiftdiffusion.networks.network import Network
from swiftdiffusion.placement import Placement


class TorchEngine:
    """A network run by torch as it is written, for any shapes."""

    def __init__(self, network: Network, placement: Placement, captures: int = 1) -> None:
        self._network = network.to(placement.device, placement.dtype).eval().requires_grad_(False)
        self._weights = self._network.weights()

    @torch.inference_mode()
    def __call__(self, *inputs: Any) -> Any:
        """Run the network's ``forward``."""
        return self._network(*inputs)

    @torch.inference_mode()
    def open(self, *inputs: Any) -> Session:
        """Prepare what the steady inputs alone decide; the other inputs are only examples."""
        steady = inputs[len(inputs) - self._network.steady :]
        return SimpleSession(torch.inference_mode()(self._network.step), (self._network.prepare(*steady),))

    def require_size(self, batch: int, height: int, width: int) -> None:
        """It takes any."""

    def parameters(self) -> Mapping[str, Tensor]:
        """The live weights by name."""
        return self._weights

    def weights_changed(self, names: Collection[str]) -> None:
        """Nothing to do: every call reads the live weights."""
