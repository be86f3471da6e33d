"""New weights for a running plan, on its GPU and in order with its runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
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
        self._lock = threading.Lock()  # patches are prepared by other threads than the one that refits

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._refittable:
            return self._base[name]
        with self._lock:
            if name not in self.buffers:
                self.buffers[name] = self._bring(name)
        return self.buffers[name].T if name in self._transposed else self.buffers[name]

    def _bring(self, name: str) -> Tensor:
        with torch.inference_mode(False):  # or it could not be written outside of that mode
            weight = self._base[name].detach()
            weight = weight.T if name in self._transposed else weight
            buffer = weight.to(self._device, copy=True, memory_format=torch.contiguous_format)
        if buffer.is_cuda:
            torch.cuda.current_stream(self._device).synchronize()  # it is there for every other stream, too
        return buffer

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
        self._library, self._trt, self._live = library, library.trt, live
        self._engine = engine
        self._set: set[str] = set()

    @cached_property
    def _refitter(self) -> Any:
        """Made when it is first needed: a plan without refittable weights has none."""
        return self._trt.Refitter(self._engine, self._library.log)

    def refit(self, names: set[str], stream: int) -> None:
        """Take the named live weights over, and those that TensorRT has merged with them, in order on a stream.

        The caller names what was written since the last time, what went back to its base among it; which weights that
        time named does not matter, for every live weight holds its present value, written or base.

        Args:
            names: of weights that the plan was built to refit.
            stream: a ``cudaStream_t``, the one that the plan runs on.

        Raises:
            Internal: TensorRT does not take one, or the plan was not built to refit it.
        """
        for name in names:
            self._live.require_refittable(name)
        for name in self._set - names:
            self._refitter.unset_named_weights(name)
        self._set &= names
        while names:
            for name in names - self._set:
                self._set_weight(name)
            # merged by the builder, as are an attention's three products: they can only be refitted together
            names = set(self._refitter.get_missing_weights()) - self._set
        if not self._refitter.refit_cuda_engine_async(stream):
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
