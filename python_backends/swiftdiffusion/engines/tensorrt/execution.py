"""A plan at one set of input shapes: a context with memory of its own, captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.engines.capturing import capture_alone
from swiftdiffusion.engines.tensorrt.library import TensorRt
from swiftdiffusion.engines.tensorrt.profiles import Shape
from swiftdiffusion.errors import Internal

WARM_UP_RUNS = 2  # before a capture: TensorRT and Triton make ready what a capture may not


class Execution:
    """Static inputs and outputs around one execution context. For one thread at a time, on one stream.

    Its memory is the stream's: what takes it over later does so in the stream's order, whoever asked for either.
    """

    def __init__(
        self, library: TensorRt, engine: Any, shapes: Mapping[str, Shape], profile: int, stream: torch.cuda.Stream
    ) -> None:
        """Make ready for inputs of these shapes, by name, which the profile takes, on the stream's device.

        Raises:
            Internal: TensorRT refuses them all the same.
        """
        self._library, self._stream = library, stream
        self._context = library.make_context(engine)
        _require(self._context.set_optimization_profile_async(profile, stream.cuda_stream))
        for name, shape in shapes.items():
            _require(self._context.set_input_shape(name, shape))
        self.inputs = {name: self._reserve(name, shape, engine) for name, shape in shapes.items()}
        if unknown := self._context.infer_shapes():
            raise Internal(f"TensorRT does not know the shapes of {', '.join(unknown)}")
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        self.outputs = {
            name: self._reserve(name, tuple(self._context.get_tensor_shape(name)), engine)
            for name in names
            if name not in shapes
        }
        size = self._context.update_device_memory_size_for_shapes()
        with torch.cuda.stream(stream):
            self._memory = torch.empty(max(size, 1), dtype=torch.uint8, device=stream.device)
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
        """Capture anew at the next run.

        Nothing promises that a captured graph sees refitted weights, and to see that it does after one refit says
        nothing of the weights that the next one changes: TensorRT may keep some in its kernels' arguments.
        """
        self._graph = None

    def _reserve(self, name: str, shape: Shape, engine: Any) -> Tensor:
        dtype = _torch_dtypes(self._library.trt)[engine.get_tensor_dtype(name)]
        with torch.cuda.stream(self._stream):
            tensor = torch.zeros(shape, dtype=dtype, device=self._stream.device)
        _require(self._context.set_tensor_address(name, tensor.data_ptr()))
        return tensor

    def _prepare(self) -> None:
        """Warm up, and capture where that can be done."""
        while self._runs < WARM_UP_RUNS:
            self._enqueue()
        if not self._library.can_capture(self._context, self._stream.cuda_stream):
            return
        with torch.cuda.stream(self._stream):
            self._graph = capture_alone(self._capture)

    def _capture(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # not by `torch.cuda.graph`, which collects garbage and waits: a capture follows every refit
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            self._enqueue()
        finally:
            graph.capture_end()
        return graph

    def _enqueue(self) -> None:
        _require(self._context.execute_async_v3(self._stream.cuda_stream))
        self._runs += 1


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
