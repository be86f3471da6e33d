"""New weights for a running plan, on its GPU and in order with its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.engines.tensorrt.library import TensorRt
from swiftdiffusion.engines.tensorrt.records import PlanRecord
from swiftdiffusion.errors import Internal


class LiveWeights(Mapping[str, Tensor]):
    """A plan's weights by name: what can be refitted is on the GPU from when it is first asked for.

    Such a tensor is a view of the memory that TensorRT refits from. It is laid out as in the checkpoint; the plan may
    want it transposed.
    """

    def __init__(self, base: Mapping[str, Tensor], record: PlanRecord, device: torch.device) -> None:
        """`base` are the weights that the plan was built from, by name, on the CPU."""
        self._base, self._device = base, device
        self._refittable, self._transposed = frozenset(record.refittable), frozenset(record.graph.transposed)
        self.buffers: dict[str, Tensor] = {}  # as the plan wants them

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._refittable:
            return self._base[name]
        if name not in self.buffers:
            with torch.inference_mode(False):  # or it could not be written outside of that mode
                weight = self._base[name].detach()
                weight = weight.T if name in self._transposed else weight
                self.buffers[name] = weight.to(self._device, copy=True, memory_format=torch.contiguous_format)
        return self.buffers[name].T if name in self._transposed else self.buffers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)

    def require_refittable(self, name: str) -> None:
        """Raises `Internal` for a weight that the plan cannot change."""
        if name not in self._refittable:
            raise Internal(f"the plan was not built to refit {name!r}")


class WeightRefitter:
    """TensorRT's refitter, told of device memory once for each weight and run whenever that has changed."""

    def __init__(self, library: TensorRt, engine: Any, live: LiveWeights) -> None:
        self._trt, self._live = library.trt, live
        self._refitter = library.trt.Refitter(engine, library.log)
        self._set: set[str] = set()

    def refit(self, names: set[str], stream: torch.cuda.Stream) -> None:
        """Take the named live weights over, and those that TensorRT has merged with them, in order on `stream`.

        Raises:
            Internal: TensorRT does not take one.
        """
        for name in self._set - names:
            self._refitter.unset_named_weights(name)
        self._set &= names
        while names:
            for name in names - self._set:
                self._set_weight(name)
            # merged by the builder, as are an attention's three products: they can only be refitted together
            names = set(self._refitter.get_missing_weights()) - self._set
        if not self._refitter.refit_cuda_engine_async(stream.cuda_stream):
            raise Internal("TensorRT did not refit the plan; its message is in the log")

    def _set_weight(self, name: str) -> None:
        self._live.require_refittable(name)
        _ = self._live[name]
        buffer = self._live.buffers[name]
        prototype = self._refitter.get_weights_prototype(name)
        weights = self._trt.Weights(prototype.dtype, buffer.data_ptr(), buffer.numel())
        if not self._refitter.set_named_weights(name, weights, self._trt.TensorLocation.DEVICE):
            raise Internal(f"TensorRT does not take {name!r} as {buffer.numel()} elements of {prototype.dtype}")
        self._set.add(name)
