"""Tensors in a partition's registers, and pointers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .dtypes import TORCH, TRITON
from .errors import Misuse
from .operations import Operation


class Value:
    """A tensor; the result of a product that is not yet waited for can only be added to by another product."""

    type = SimpleNamespace(layout=None)  # which the compiler knows; here nothing depends on it

    def __init__(self, data: Tensor, product: Operation | None = None) -> None:
        self.accumulated = data
        self._product = product

    @property
    def data(self) -> Tensor:
        """What is in it."""
        if self._product is not None and self._product.in_flight:
            raise Misuse(f"a product is used before it is waited for: {self._product.position}")
        return self.accumulated

    @property
    def shape(self) -> list[int]:
        """Sizes."""
        return list(self.accumulated.shape)

    @property
    def dtype(self) -> Any:
        """Of its numbers, Triton's."""
        return TRITON[self.accumulated.dtype]

    def to(self, dtype: Any) -> Value:
        """Rounded to nearest, ties to even."""
        return Value(self.data.to(TORCH[dtype]))

    def reshape(self, shape: list[int]) -> Value:
        """In the same order."""
        return Value(self.data.reshape(shape))

    def permute(self, order: list[int]) -> Value:
        """With its dimensions in another order."""
        return Value(self.data.permute(order))

    def split(self) -> tuple[Value, Value]:
        """Along the last dimension, of two."""
        first, second = self.data.unbind(-1)
        return Value(first), Value(second)

    def __getitem__(self, places: Any) -> Value:
        if any(place not in (None, slice(None)) for place in places):
            raise Misuse("only new dimensions can be made by an index")
        return Value(self.data[places])

    def _combine(self, other: Any, operation: Callable[[Any, Any], Tensor]) -> Value:
        if isinstance(other, Value):
            if other.dtype != self.dtype:
                raise Misuse(f"the interpreter does not mix {self.dtype} and {other.dtype}")
            other = other.data
        return Value(operation(self.data, other))

    def __add__(self, other: Any) -> Value:
        return self._combine(other, operator.add)

    def __radd__(self, other: Any) -> Value:
        return self._combine(other, operator.add)

    def __sub__(self, other: Any) -> Value:
        return self._combine(other, operator.sub)

    def __mul__(self, other: Any) -> Value:
        return self._combine(other, operator.mul)

    def __rmul__(self, other: Any) -> Value:
        return self._combine(other, operator.mul)

    def __rtruediv__(self, other: Any) -> Value:
        return self._combine(other, lambda own, their: their / own)

    def __lt__(self, other: Any) -> Value:
        return self._combine(other, operator.lt)

    def __neg__(self) -> Value:
        return Value(-self.data)


class Pointer:
    """To one number of a tensor in global memory, or to many."""

    def __init__(self, tensor: Tensor, offset: int | Tensor = 0) -> None:
        self._tensor = tensor
        self._offset = offset

    def __add__(self, distance: int | Value) -> Pointer:
        return Pointer(self._tensor, self._offset + (distance.data if isinstance(distance, Value) else distance))

    def load(self, mask: Value | None, other: float) -> Value | int | float:
        """What is there; where the mask is false, `other`. A single number is Python's."""
        flat = self._tensor.view(-1)
        offset = torch.as_tensor(self._offset)
        wanted = torch.ones_like(offset, dtype=torch.bool) if mask is None else mask.data
        if (wanted & ((offset < 0) | (offset >= len(flat)))).any():
            raise Misuse(f"reads outside a tensor of {len(flat)} numbers")
        found = torch.where(wanted, flat[torch.where(wanted, offset, 0)], torch.tensor(other, dtype=flat.dtype))
        return Value(found) if found.dim() else found.item()
