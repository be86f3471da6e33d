"""A plan at one set of input shapes: a context with memory of its own, captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from swiftdiffusion.engines.tensorrt.library import TensorRt
from swiftdiffusion.errors import Internal, InvalidArgument

WARM_UP_RUNS = 2  # before a capture: TensorRT and Triton make ready what a capture may not


class Execution:
    """Static inputs and outputs around one execution context. For one thread, on one stream."""

    def __init__(
        self, library: TensorRt, engine: Any, shapes: Mapping[str, tuple[int, ...]], stream: torch.cuda.Stream
    ) -> None:
        """Make ready for inputs of these shapes, by name, on the stream's device.

        Raises:
            InvalidArgument: no profile of the plan takes the shapes.
            Internal: TensorRT refuses them all the same.
        """
        self._library, self._stream = library, stream
        self._context = library.make_context(engine)
        device, dtypes = stream.device, _torch_dtypes(library.trt)
        _require(self._context.set_optimization_profile_async(_find_profile(engine, shapes), stream.cuda_stream))
        self.inputs = {
            name: torch.zeros(shape, dtype=dtypes[engine.get_tensor_dtype(name)], device=device)
            for name, shape in shapes.items()
        }
        for name, tensor in self.inputs.items():
            _require(self._context.set_input_shape(name, tuple(tensor.shape)))
            _require(self._context.set_tensor_address(name, tensor.data_ptr()))
        if unknown := self._context.infer_shapes():
            raise Internal(f"TensorRT does not know the shapes of {', '.join(unknown)}")
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        self.outputs = {
            name: torch.empty(
                tuple(self._context.get_tensor_shape(name)), dtype=dtypes[engine.get_tensor_dtype(name)], device=device
            )
            for name in names
            if name not in shapes
        }
        for name, tensor in self.outputs.items():
            _require(self._context.set_tensor_address(name, tensor.data_ptr()))
        size = self._context.update_device_memory_size_for_shapes()
        self._memory = torch.empty(max(size, 1), dtype=torch.uint8, device=device)
        self._context.set_device_memory(self._memory.data_ptr(), size)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._runs = 0

    def run(self) -> None:
        """Enqueue on the stream: inputs as they are now to outputs."""
        if self._graph is None:
            self._prepare()
        if self._graph is None:
            self._enqueue()
        else:
            with torch.cuda.stream(self._stream):
                self._graph.replay()

    def forget_graph(self) -> None:
        """Capture anew at the next run: nothing promises that a captured graph sees refitted weights."""
        self._graph = None

    def _prepare(self) -> None:
        """Warm up, and capture where that can be done."""
        while self._runs < WARM_UP_RUNS:
            self._enqueue()
        if not self._library.can_capture(self._context, self._stream.cuda_stream):
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # not by `torch.cuda.graph`, which collects garbage and waits: a capture follows every refit
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                self._enqueue()
            finally:
                graph.capture_end()
        self._graph = graph

    def _enqueue(self) -> None:
        _require(self._context.execute_async_v3(self._stream.cuda_stream))
        self._runs += 1


def _find_profile(engine: Any, shapes: Mapping[str, Sequence[int]]) -> int:
    """The first profile that takes all shapes: plans have the narrowest, which is the fastest, first."""
    for profile in range(engine.num_optimization_profiles):
        ranges = {name: engine.get_tensor_profile_shape(name, profile) for name in shapes}
        if all(_fits(shapes[name], low, high) for name, (low, _, high) in ranges.items()):
            return profile
    name, shape = next((name, shape) for name, shape in shapes.items() if len(shape) > 1)
    allowed = [
        f"{tuple(low)} to {tuple(high)}"
        for low, _, high in (engine.get_tensor_profile_shape(name, n) for n in range(engine.num_optimization_profiles))
    ]
    raise InvalidArgument(
        f"the plan has no profile for inputs of this size: {name!r} is {tuple(shape)}; built for {' or '.join(allowed)}"
    )


def _fits(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> bool:
    return len(shape) == len(low) and all(least <= n <= most for least, n, most in zip(low, shape, high, strict=True))


def _torch_dtypes(trt: Any) -> dict[Any, torch.dtype]:
    return {
        trt.float32: torch.float32,
        trt.float16: torch.float16,
        trt.bfloat16: torch.bfloat16,
        trt.int64: torch.int64,
        trt.int32: torch.int32,
    }


def _require(done: bool) -> None:
    if not done:
        raise Internal("TensorRT refused a call; its message is in the log")
