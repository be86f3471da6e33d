"""A request's conditioning on its way from a lane to a ControlNet: a file in memory, handed over with the lifeline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors.torch import load, save

from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.placement import Placement


@contextmanager
def written(conditioning: Conditioning) -> Iterator[int]:
    """The descriptor of a file that has it, within the block; who was given the descriptor has it longer."""
    with os.fdopen(os.memfd_create("prompts"), "wb") as file:
        file.write(save({name: tensor.contiguous() for name, tensor in vars(conditioning).items()}))
        file.flush()
        yield file.fileno()


def read(file: int, placement: Placement) -> Conditioning:
    """What `written` wrote, on the placement's device and in its number type."""
    tensors = load(os.pread(file, os.fstat(file).st_size, 0))
    return Conditioning(**{name: part.to(placement.device, placement.dtype) for name, part in tensors.items()})
