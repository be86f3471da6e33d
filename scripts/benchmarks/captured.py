"""Functions of tensors as CUDA graphs, captured by hand."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

WARM_UP_CALLS = 3  # before capturing; the first one compiles


class Captured:
    """A function of tensors, captured once for each combination of its inputs' shapes and its other arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._captures: dict[Hashable, tuple[torch.cuda.CUDAGraph, list[Any], Any]] = {}

    @torch.no_grad()
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Copy the inputs to where the graph reads them and replay; the next call overwrites what this one returns."""
        values, structure = tree_flatten((arguments, keywords))
        key = (
            str(structure),
            *((value.shape, value.dtype) if isinstance(value, Tensor) else value for value in values),
        )
        if key not in self._captures:
            self._captures[key] = self._capture(values, structure)
        graph, held, results = self._captures[key]
        for place, value in zip(held, values, strict=True):
            if isinstance(value, Tensor):
                place.copy_(value, non_blocking=True)
        graph.replay()
        return results

    def _capture(self, values: list[Any], structure: Any) -> tuple[torch.cuda.CUDAGraph, list[Any], Any]:
        held = [value.clone() if isinstance(value, Tensor) else value for value in values]
        arguments, keywords = tree_unflatten(held, structure)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                self._function(*arguments, **keywords)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = self._function(*arguments, **keywords)
        return graph, held, results
