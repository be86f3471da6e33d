"""A plan at one set of input shapes: a context with memory of its own, captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from swiftdiffusion.engines.tensorrt.library import TensorRt
from swiftdiffusion.errors import Internal, InvalidArgument

WARM_UP_RUNS = 2  # before a capture: TensorRT and Triton make ready what a capture may not


Shape = tuple[int, ...]
Ranges = Mapping[str, tuple[Shape, Shape]]  # of one profile: the least and the greatest shape of each input


class Execution:
    """Static inputs and outputs around one execution context. For one thread, on one stream."""

    def __init__(self, library: TensorRt, engine: Any, shapes: Mapping[str, Shape], stream: torch.cuda.Stream) -> None:
        """Make ready for inputs of these shapes, by name, on the stream's device.

        Raises:
            InvalidArgument: no profile of the plan takes the shapes.
            Internal: TensorRT refuses them all the same.
        """
        self._library, self._stream = library, stream
        self._context = library.make_context(engine)
        device, dtypes = stream.device, _torch_dtypes(library.trt)
        profile = find_profile(_read_profiles(engine, shapes), shapes)
        _require(self._context.set_optimization_profile_async(profile, stream.cuda_stream))
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


def find_profile(profiles: Sequence[Ranges], shapes: Mapping[str, Shape]) -> int:
    """The first profile that takes all shapes: plans have the narrowest, which is the fastest, first.

    Raises:
        InvalidArgument: there is none; names an input, its shape and what is allowed.
    """
    for place, ranges in enumerate(profiles):
        if all(_fits(shape, *ranges[name]) for name, shape in shapes.items()):
            return place
    # what is wrong with the profile that comes nearest
    ranges = min(profiles, key=lambda ranges: sum(not _fits(shape, *ranges[name]) for name, shape in shapes.items()))
    name = next(name for name, shape in shapes.items() if not _fits(shape, *ranges[name]))
    low, high = ranges[name]
    raise InvalidArgument(
        f"no profile of the plan takes these sizes: {name!r} is {tuple(shapes[name])}; allowed: {low} to {high}"
    )


def _read_profiles(engine: Any, names: Iterable[str]) -> list[Ranges]:
    def read(name: str, place: int) -> tuple[Shape, Shape]:
        low, _, high = engine.get_tensor_profile_shape(name, place)
        return tuple(low), tuple(high)

    return [{name: read(name, place) for name in names} for place in range(engine.num_optimization_profiles)]


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
