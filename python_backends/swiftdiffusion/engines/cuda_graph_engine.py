"""The engine for NVIDIA GPUs: fused layers, channels last, replayed as CUDA graphs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn

from swiftdiffusion.engines.capture import Capture
from swiftdiffusion.engines.torch_engine import TorchEngine
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.fused import fuse
from swiftdiffusion.networks.network import Network
from swiftdiffusion.placement import Placement


class CudaGraphEngine(TorchEngine):
    """A network captured once for each shape of its inputs; the least recently used captures are dropped.

    A call's results are the capture's own: the next call with the same shapes overwrites them. For one thread.
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
        self._most = captures
        self._captures: OrderedDict[Hashable, Capture] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, *inputs: Any) -> Any:
        """Replay the network's ``forward`` on these inputs, capturing it first for shapes not seen lately."""
        key = _describe(inputs)
        capture = self._captures.get(key)
        if capture is None:
            while len(self._captures) >= self._most:
                self._captures.popitem(last=False)
            with torch.cuda.device(self._device):
                capture = self._captures[key] = Capture(self._network, inputs)
        self._captures.move_to_end(key)
        return capture.replay(inputs)

    def weights_changed(self) -> None:
        """Say that live weights were written: what was prepared from them is prepared anew at the next call."""
        for capture in self._captures.values():
            capture.forget()


def _describe(inputs: Any) -> Hashable:
    if isinstance(inputs, Tensor):
        return (tuple(inputs.shape), inputs.dtype)
    if isinstance(inputs, (tuple, list)):
        return tuple(_describe(part) for part in inputs)
    return inputs
