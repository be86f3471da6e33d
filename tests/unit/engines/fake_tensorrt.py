"""TensorRT and CUDA as the tensorrt engine meets them, on the CPU: by their documentation, and strict about threads.

Work is done when it is enqueued. A captured graph keeps the weights that it was captured with. Whoever enters TensorRT,
a capture or a refit while another thread is there is noted as a trespasser.
"""

import ctypes
import itertools
import threading
import weakref
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch


class Premises:
    """Where one thread may be at a time: a plan with all that is made of it. And what a test does while one is."""

    def __init__(self):
        self.trespassers = []
        self.log = []
        self.meanwhile = {}  # by the place: called once, inside
        self._guest = None

    @contextmanager
    def enter(self, place):
        guest, own = self._guest, threading.get_ident()
        if guest not in (None, own):
            self.trespassers.append(place)
        self._guest = own
        self.log.append(place)
        try:
            self.meanwhile.pop(place, lambda: None)()
            yield
        finally:
            self._guest = guest


class Cuda:
    """Of `torch.cuda` what the engine uses."""

    def __init__(self, premises):
        self.premises = premises
        self._held = threading.local()
        self._capturing = []
        self._numbers = itertools.count(1)
        self.streams = {}

    def install(self, monkeypatch):
        for name in ("Stream", "CUDAGraph", "current_stream", "stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")

    def Stream(self):  # noqa: N802
        number = next(self._numbers)
        waited = SimpleNamespace(
            device=torch.device("cpu"),
            cuda_stream=number,
            graph=None,  # that is being captured
            wait_stream=lambda other: None,
            synchronize=lambda: self.premises.log.append("waited"),
        )
        self.streams[number] = waited
        return waited

    def current_stream(self, device=None):
        if not getattr(self._held, "streams", None):
            self._held.streams = [self.Stream()]
        return self._held.streams[-1]

    @contextmanager
    def stream(self, stream):
        self.current_stream()
        self._held.streams.append(stream)
        try:
            yield
        finally:
            self._held.streams.pop()

    def CUDAGraph(self):  # noqa: N802
        graph = SimpleNamespace(work=[])

        def begin(capture_error_mode):
            if self._capturing:
                self.premises.trespassers.append("capture")
            self._capturing.append(graph)
            self.current_stream().graph = graph

        def end():
            self._capturing.remove(graph)
            self.current_stream().graph = None

        def replay():
            for work in graph.work:
                work()

        graph.capture_begin, graph.capture_end, graph.replay = begin, end, replay
        return graph


def tensor_at(address, shape, dtype=torch.float16):
    """Memory as a tensor."""
    count = torch.Size(shape).numel()
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


class Plan:
    """A linear layer, x [n, 3] to y [n, 2], in fp16; its profiles bound n."""

    num_io_tensors = 2

    def __init__(self, network, bounds, cuda, premises):
        self.weights = {
            "linear.weight": network.linear.weight.detach().T.clone(),
            "linear.bias": network.linear.bias.detach().clone(),
        }
        self.bounds, self.cuda, self.premises = bounds, cuda, premises
        self.num_optimization_profiles = len(bounds)

    def get_tensor_profile_shape(self, name, place):
        low, high = self.bounds[place]
        return [(low, 3), (high, 3), (high, 3)]

    def get_tensor_name(self, place):
        return "xy"[place]

    def get_tensor_dtype(self, name):
        return "float16"


class Context:
    """An execution context; a graph that is captured keeps copies of the weights."""

    def __init__(self, plan):
        self._plan, self._premises = plan, plan.premises
        self._addresses, self._rows = {}, 0
        weakref.finalize(self, self._premises.log.append, "context gone")

    def set_optimization_profile_async(self, place, stream):
        self._premises.log.append(f"profile {place}")
        return True

    def set_input_shape(self, name, shape):
        self._rows = shape[0]
        return True

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def infer_shapes(self):
        return []

    def get_tensor_shape(self, name):
        return (self._rows, 2)

    def update_device_memory_size_for_shapes(self):
        return 0

    def set_device_memory(self, address, size):
        pass

    def execute_async_v3(self, stream):
        weights = {name: weight.clone() for name, weight in self._plan.weights.items()}
        addresses, rows = dict(self._addresses), self._rows

        def work():
            x, y = tensor_at(addresses["x"], (rows, 3)), tensor_at(addresses["y"], (rows, 2))
            y.copy_(x @ weights["linear.weight"] + weights["linear.bias"])

        def replay():
            with self._premises.enter("replay"):
                work()

        graph = self._plan.cuda.streams[stream].graph
        with self._premises.enter("run" if graph is None else "capture"):
            work() if graph is None else graph.work.append(replay)
        return True


class Refitter:
    """Takes addresses, and reads what lies there when it refits."""

    def __init__(self, plan, log):
        self._plan, self._given = plan, {}

    def get_weights_prototype(self, name):
        return SimpleNamespace(dtype=torch.float16)

    def set_named_weights(self, name, weights, location):
        self._given[name] = weights
        return True

    def unset_named_weights(self, name):
        return self._given.pop(name, None) is not None

    def get_missing_weights(self):
        return []

    def refit_cuda_engine_async(self, stream):
        with self._plan.premises.enter("refit"):
            for name, (_, address, _) in self._given.items():
                held = self._plan.weights[name]
                held.copy_(tensor_at(address, held.shape))
        return True


class Library:
    """In the place of `TensorRt`."""

    kind, version = "tensorrt", "10.9.0"

    def __init__(self, plans):
        self.log = SimpleNamespace(latest_error="")
        self.trt = SimpleNamespace(
            Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=lambda data: plans[data]),
            Refitter=Refitter,
            Weights=lambda dtype, address, count: (dtype, address, count),
            TensorLocation=SimpleNamespace(DEVICE="device"),
            **{name: name for name in ("float32", "float16", "bfloat16", "int64", "int32")},
        )

    def require_gpu(self, device):
        pass

    def make_context(self, plan):
        return Context(plan)

    def can_capture(self, context, stream):
        return True
