"""One network captured for one set of shapes, as two CUDA graphs: what a picture's steps share, and a step.

See https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs for what a graph may hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from swiftdiffusion.networks.network import Network

WARM_UP_CALLS = 2  # before capturing: libraries choose their kernels, Triton compiles its own

# results of captures: they stay where they are, so a capture that takes them reads them in place
_fixed: WeakIdKeyDictionary = WeakIdKeyDictionary()


class Capture:
    """The graphs, their inputs and their results."""

    def __init__(self, network: Network, inputs: tuple[Any, ...]) -> None:
        """Capture on the current device; the results for `inputs` come with the first `replay`."""
        tensors, structure = tree_flatten(inputs)
        self._inputs = [_keep(value) for value in tensors]
        held, moving = tree_unflatten(self._inputs, structure), len(inputs) - network.steady
        moving_inputs, steady = held[:moving], held[moving:]
        first_steady = len(tree_flatten(moving_inputs)[0])
        self._moving, self._steady = range(first_steady), range(first_steady, len(tensors))

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                network.step(*moving_inputs, network.prepare(*steady))
        torch.cuda.current_stream().wait_stream(stream)

        with _own_workspace():
            pool = torch.cuda.graph_pool_handle()
            self._prepare = torch.cuda.CUDAGraph() if network.steady else None
            if self._prepare is None:
                prepared = network.prepare()
            else:
                with torch.cuda.graph(self._prepare, pool=pool, stream=stream, capture_error_mode="thread_local"):
                    prepared = network.prepare(*steady)
            self._step = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._step, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self._results = network.step(*moving_inputs, prepared)
        self._prepared = prepared  # its memory is the step's to read
        self._seen: list[Any] = [None] * len(tensors)
        for result in tree_flatten(self._results)[0]:
            _fixed[result] = True

    def takes(self, inputs: Sequence[Any]) -> bool:
        """Whether these inputs, flattened, are shaped as the captured ones; what is no tensor is to be equal."""
        return len(inputs) == len(self._inputs) and all(map(_is_like, inputs, self._inputs))

    def replay(self, tensors: Sequence[Any]) -> Any:
        """Run on new inputs that it `takes`, flattened; the results are overwritten by the next replay."""
        stale = False
        for place in self._steady:
            if self._seen[place] is not tensors[place]:
                self._inputs[place].copy_(tensors[place], non_blocking=True)
                self._seen[place] = tensors[place]
                stale = True
        if stale and self._prepare is not None:
            self._prepare.replay()
        for place in self._moving:
            held = self._inputs[place]
            if isinstance(held, Tensor) and held is not tensors[place]:
                held.copy_(tensors[place], non_blocking=True)
        self._step.replay()
        return self._results

    def forget(self) -> None:
        """Take the next call's steady inputs for new."""
        self._seen = [None] * len(self._seen)


def flatten(inputs: Iterable[Any]) -> list[Any]:
    """What is in nested tuples and lists, as torch's ``tree_flatten`` does, in a fraction of its time."""
    leaves: list[Any] = []
    for value in inputs:
        if isinstance(value, (tuple, list)):
            leaves.extend(flatten(value))
        else:
            leaves.append(value)
    return leaves


def _is_like(given: Any, held: Any) -> bool:
    if given is held:
        return True
    if isinstance(given, Tensor) and isinstance(held, Tensor):
        return given.shape == held.shape and given.dtype == held.dtype
    return not isinstance(given, Tensor) and not isinstance(held, Tensor) and bool(given == held)


@contextmanager
def _own_workspace() -> Iterator[None]:
    """Have cuBLAS take its workspace from the graphs' memory, where it lives and goes with them.

    torch keeps one for each of the 32 streams that it deals in turn, for good: 32 MB each on Hopper, and two captures
    that were dealt the same stream would share it, whatever streams they are replayed on.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def _keep(value: Any) -> Any:
    """A place for an input: its own where it never moves, else a copy, pictures channels last."""
    if not isinstance(value, Tensor) or value in _fixed:
        return value
    form = torch.channels_last if value.ndim == 4 else torch.contiguous_format
    return torch.empty_like(value, device="cuda", memory_format=form).copy_(value)
