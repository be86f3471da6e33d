"""Tensors that lie in one block of memory, so that they are allocated, checked and moved together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes at which each tensor starts


@dataclass(frozen=True)
class TensorBlock:
    """`memory` is uint8, `tensors` are views of it, those of one dtype side by side, zeros between them."""

    memory: Tensor
    tensors: Mapping[str, Tensor]

    @classmethod
    def allocate(cls, shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> TensorBlock:
        """Room on the host for tensors of these dtypes and shapes; within a dtype they lie in the mapping's order."""
        spans: dict[str, tuple[int, int]] = {}
        offset = 0
        for name in sorted(shapes, key=lambda name: str(shapes[name][0])):
            dtype, shape = shapes[name]
            size = torch.Size(shape).numel() * dtype.itemsize
            spans[name] = (offset, offset + size)
            offset += -(-size // ALIGNMENT) * ALIGNMENT
        memory = torch.empty(offset, dtype=torch.uint8)
        for _, end in spans.values():
            memory[end : -(-end // ALIGNMENT) * ALIGNMENT] = 0
        views = {
            name: memory[slice(*spans[name])].view(dtype).reshape(shape) for name, (dtype, shape) in shapes.items()
        }
        return cls(memory, views)

    def allocate_on(self, device: torch.device) -> TensorBlock:
        """Room for the same tensors on a device, nothing copied yet."""
        memory = torch.empty_like(self.memory, device=device)
        views = {}
        for name, tensor in self.tensors.items():
            offset = self.find_place(name)
            views[name] = memory[offset : offset + tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)
        return TensorBlock(memory, views)

    def find_place(self, name: str) -> int:
        """The byte of `memory` at which a tensor starts; 0 for an empty one."""
        tensor = self.tensors[name]
        return tensor.data_ptr() - self.memory.data_ptr() if tensor.numel() else 0

    def find_not_finite(self) -> str | None:
        """Name a floating tensor with a value that is infinite or not a number; None where there is none."""
        by_dtype: dict[torch.dtype, list[str]] = {}
        for name, tensor in self.tensors.items():
            if tensor.is_floating_point() and tensor.numel():
                by_dtype.setdefault(tensor.dtype, []).append(name)
        for dtype, names in by_dtype.items():
            starts = [self.find_place(name) for name in names]
            ends = [start + self.tensors[name].nbytes for start, name in zip(starts, names, strict=True)]
            # one pass over all of them; which it was is only asked where one is wrong
            if not _is_finite(self.memory[min(starts) : max(ends)].view(dtype)):
                return next(name for name in names if not _is_finite(self.tensors[name]))
        return None


def _is_finite(tensor: Tensor) -> bool:
    # the extremes are a NaN where there is one, and take a fraction of isfinite's time on half precision
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())
