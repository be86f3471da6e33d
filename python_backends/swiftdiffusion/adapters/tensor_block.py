"""Tensors that lie in one block of memory, so that they are allocated, checked and moved together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from swiftdiffusion.adapters.host_memory import HOST_MEMORY

ALIGNMENT = 64  # bytes at which each tensor starts


class Place(NamedTuple):
    """A tensor's bytes `start` to `end` of a block."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Where tensors lie in a block: those of one dtype side by side, from multiples of `ALIGNMENT`, zeros between."""

    places: Mapping[str, Place]
    nbytes: int

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> Arrangement:
        """Arrange tensors of these dtypes and shapes; within a dtype they lie in the mapping's order."""
        places: dict[str, Place] = {}
        offset = 0
        for name in sorted(shapes, key=lambda name: str(shapes[name][0])):
            dtype, shape = shapes[name]
            end = offset + math.prod(shape) * dtype.itemsize
            places[name] = Place(dtype, shape, offset, end)
            offset = _align(end)
        return cls(places, offset)

    @cached_property
    def gaps(self) -> Sequence[slice]:
        """The zeros between the tensors."""
        return [slice(place.end, _align(place.end)) for place in self.places.values() if place.end % ALIGNMENT]


@dataclass(frozen=True, eq=False)
class TensorBlock:
    """`memory` is uint8, with the tensors where `arrangement` has them."""

    memory: Tensor
    arrangement: Arrangement

    @classmethod
    def allocate(cls, arrangement: Arrangement) -> TensorBlock:
        """Room on the host."""
        memory = HOST_MEMORY.take(arrangement.nbytes)
        for gap in arrangement.gaps:
            memory[gap] = 0
        return cls(memory, arrangement)

    def allocate_on(self, device: torch.device) -> TensorBlock:
        """Room for the same tensors on a device, nothing copied yet."""
        return TensorBlock(torch.empty_like(self.memory, device=device), self.arrangement)

    @property
    def places(self) -> Mapping[str, Place]:
        """Where each tensor lies."""
        return self.arrangement.places

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Views of the memory, made when they are first asked for: a thousand take milliseconds."""
        views: dict[str, Tensor] = {}
        for dtype, group in groupby(self.places.items(), key=lambda item: item[1].dtype):
            places = dict(group)
            first = next(iter(places.values())).start
            sizes = [_align(place.end) - place.start for place in places.values()]
            memory = self.memory[first : first + sum(sizes)].view(dtype)
            parts = memory.split([size // dtype.itemsize for size in sizes])  # one call, for the interpreter is slow
            for (name, place), size, part in zip(places.items(), sizes, parts, strict=True):
                used = part if size == place.end - place.start else part[: math.prod(place.shape)]
                views[name] = used.view(place.shape)
        return views

    def find_not_finite(self) -> str | None:
        """Name a floating tensor with a value that is infinite or not a number; None where there is none."""
        for dtype, group in groupby(self.places.items(), key=lambda item: item[1].dtype):
            places = {name: place for name, place in group if place.end > place.start}
            if not (dtype.is_floating_point and places):
                continue
            first, *_, last = (*places.values(), *places.values())
            # one pass over all of them; which it was is only asked where one is wrong
            if not _is_finite(self.memory[first.start : last.end].view(dtype)):
                return next(name for name in places if not _is_finite(self.tensors[name]))
        return None


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _is_finite(tensor: Tensor) -> bool:
    # the extremes are a NaN where there is one, and take a fraction of isfinite's time on half precision
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())
