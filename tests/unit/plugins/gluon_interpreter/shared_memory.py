"""Shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .dtypes import TORCH, TRITON
from .errors import Misuse
from .operations import Access, History, Operation
from .values import Value

if TYPE_CHECKING:
    from .program import Program


class View:
    """A `shared_memory_descriptor`: an allocation or a part of one."""

    def __init__(self, data: Tensor, layout: Any, history: History, program: Program) -> None:
        self.data = data
        self.layout = layout
        self._history = history
        self._program = program

    @classmethod
    def allocate(cls, program: Program, dtype: Any, shape: list[int], layout: Any) -> View:
        """A new one."""
        return cls(torch.empty(shape, dtype=TORCH[dtype]), layout, History(), program)

    @property
    def shape(self) -> list[int]:
        """Sizes."""
        return list(self.data.shape)

    @property
    def dtype(self) -> Any:
        """Of its numbers, Triton's."""
        return TRITON[self.data.dtype]

    def touch(self, operation: Operation, known: int, writes: bool) -> None:
        """Note that an operation reads or writes all of it."""
        size = self.data.element_size()
        start = int(self.data.storage_offset()) * size
        last = sum((side - 1) * stride for side, stride in zip(self.data.shape, self.data.stride(), strict=True))
        access = Access(operation, start, start + int(last + 1) * size, writes, self.layout.swizzle_byte_width)
        self._history.add(access, known)

    def index(self, index: int) -> View:
        """One place of the first dimension."""
        if not 0 <= index < len(self.data):
            raise Misuse(f"place {index} of {len(self.data)}")
        return self._part(self.data[index])

    def slice(self, start: int, length: int) -> View:
        """Some places of the first dimension."""
        return self._part(self.data.narrow(0, start, length))

    def permute(self, order: tuple[int, ...]) -> View:
        """With its dimensions in another order."""
        return self._part(self.data.permute(order))

    def reshape(self, shape: list[int]) -> View:
        """The same bytes in the same order."""
        return self._part(self.data.view(shape))

    def _reinterpret(self, dtype: Any, shape: list[int], layout: Any) -> View:
        return View(self.data.view(-1).view(TORCH[dtype]).view(shape), layout, self._history, self._program)

    def load(self, layout: Any) -> Value:
        """What is in it, into registers."""
        self._program.running.touch(self, writes=False)
        return Value(self.data.clone())

    def store(self, value: Value) -> None:
        """From registers."""
        if value.shape != self.shape or value.dtype != self.dtype:
            raise Misuse(f"{value.dtype} {value.shape} stored in {self.dtype} {self.shape}")
        self._program.running.touch(self, writes=True)
        self.data.copy_(value.data)

    def _part(self, data: Tensor) -> View:
        return View(data, self.layout, self._history, self._program)
