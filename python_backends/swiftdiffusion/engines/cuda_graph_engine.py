"""The engine for NVIDIA GPUs: fused layers, channels last, replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from swiftdiffusion.engines.capture import Capture, flatten
from swiftdiffusion.engines.captures import Captures
from swiftdiffusion.engines.capturing import capture_alone
from swiftdiffusion.engines.session import Session
from swiftdiffusion.engines.torch_engine import TorchEngine
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.fused import fuse
from swiftdiffusion.networks.network import Network
from swiftdiffusion.placement import Placement


class CudaGraphEngine(TorchEngine):
    """A network captured once for each shape of its inputs; the least recently used captures are dropped.

    A call's results are the capture's own: the next call with the same shapes overwrites them. Calls are for one
    thread; sessions of other threads may run beside it.
    """

    def __init__(self, network: Network, placement: Placement, captures: int = 1) -> None:
        """Keep `captures` sets of shapes, each with its activations; raises InvalidArgument where there is no GPU."""
        if placement.device.type != "cuda":
            raise InvalidArgument(
                f"parameter 'engine' is 'cuda_graph', which needs a GPU; the device is {placement.device}"
            )
        super().__init__(network, placement)
        nn.Module.to(self._network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = placement.device
        fuse(self._network)
        self._captures = Captures(captures)

    @torch.inference_mode()
    def __call__(self, *inputs: Any) -> Any:
        """Replay the network's ``forward`` on these inputs, capturing it first for shapes not seen lately."""
        with torch.cuda.device(self._device):
            flat = flatten(inputs)
            capture = self._borrow(inputs, flat)
            try:
                return capture.replay(flat)
            finally:
                self._captures.give_back(capture)

    @torch.inference_mode()
    def open(self, *inputs: Any) -> Session:
        """Give a session a capture of its own."""
        with torch.cuda.device(self._device):
            steady = inputs[len(inputs) - self._network.steady :]
            return CaptureSession(self._borrow(inputs, flatten(inputs)), flatten(steady), self._captures)

    def weights_changed(self, names: Collection[str]) -> None:
        """Say that live weights were written: what was prepared from them is prepared anew at the next call."""
        self._captures.forget()

    def _borrow(self, inputs: tuple[Any, ...], flat: Sequence[Any]) -> Capture:
        return self._captures.borrow(flat, lambda: capture_alone(lambda: Capture(self._network, inputs)))


class CaptureSession:
    """A capture lent to one picture."""

    def __init__(self, capture: Capture, steady: Sequence[Any], captures: Captures) -> None:
        self._capture, self._steady, self._captures = capture, steady, captures

    @torch.inference_mode()
    def step(self, *moving: Any) -> Any:
        """Replay a step; what the steady inputs alone decide is computed with the first."""
        return self._capture.replay([*flatten(moving), *self._steady])

    def close(self) -> None:
        """Give the capture back."""
        self._captures.give_back(self._capture)
