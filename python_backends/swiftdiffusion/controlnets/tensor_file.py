"""Tensors on their way from a lane to a ControlNet: a file in memory, handed over with the lifeline."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from safetensors.torch import load, save
from torch import Tensor

from swiftdiffusion.placement import Placement


@contextmanager
def written(tensors: Mapping[str, Tensor]) -> Iterator[int]:
    """The descriptor of a file that has them, within the block; who was given the descriptor has it longer."""
    with os.fdopen(os.memfd_create("tensors"), "wb") as file:
        file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        file.flush()
        yield file.fileno()


def read(file: int, placement: Placement) -> dict[str, Tensor]:
    """What `written` wrote, on the placement's device and in its number type."""
    tensors = load(os.pread(file, os.fstat(file).st_size, 0))
    # converted there, where it costs nothing
    return {name: tensor.to(placement.device).to(placement.dtype) for name, tensor in tensors.items()}
