"""Boxes of tensors in global memory, copied by descriptors (PTX ISA, "Tensors")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .barriers import Barrier
from .dtypes import TRITON
from .errors import Misuse
from .operations import Operation
from .shared_memory import View


class Descriptor:
    """A `TensorDescriptor` as a kernel sees it."""

    def __init__(self, descriptor: Any) -> None:
        self.block_shape = list(descriptor.block_shape)
        self.layout = descriptor.layout
        self.dtype = TRITON[descriptor.base.dtype]
        self._tensor = descriptor.base.as_strided(descriptor.shape, descriptor.strides)

    def read(self, place: list[int], to: Tensor) -> None:
        """A box, with zeros where it is outside the tensor."""
        there, inside = self._find(place)
        to.zero_()[inside] = self._tensor[there]

    def write(self, place: list[int], box: Tensor) -> None:
        """What of a box is inside the tensor."""
        there, inside = self._find(place)
        self._tensor[there] = box[inside]

    def check(self, place: list[int], view: View) -> None:
        """Whether a box at that place is like the shared memory.

        Raises:
            Misuse: it is not.
        """
        own, other = (self.dtype, self.block_shape, self.layout), (view.dtype, view.shape, view.layout)
        if own[:2] != other[:2] or self.layout.swizzle_byte_width != view.layout.swizzle_byte_width:
            raise Misuse(f"a box of {own} and shared memory of {other}")
        if len(place) != len(self.block_shape):
            raise Misuse(f"a box of {self.block_shape} at {place}")

    def _find(self, place: list[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """What of a box is inside the tensor: in the tensor and in the box."""
        there, inside = [], []
        for start, length, side in zip(place, self.block_shape, self._tensor.shape, strict=True):
            first = min(max(start, 0), side)
            stop = max(min(start + length, side), first)
            there.append(slice(first, stop))
            inside.append(slice(first - start, stop - start) if stop > first else slice(0, 0))
        return tuple(there), tuple(inside)


@dataclass(eq=False)
class Fetch:
    """A copy to shared memory that is on its way."""

    operation: Operation
    source: Descriptor
    place: list[int]
    barrier: Barrier
    destination: View

    def land(self) -> None:
        """Write the box and tell the barrier of its bytes: all, also those outside the tensor."""
        data = self.destination.data
        self.source.read(self.place, data)
        self.barrier.complete(data.numel() * data.element_size(), self.operation.bit)
