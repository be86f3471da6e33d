"""Shapes of a network's inputs as functions of the picture's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from swiftdiffusion.engines.tensorrt.records import Size


@dataclass(frozen=True)
class Axis:
    """A dimension that changes from call to call; equal names mean equal lengths."""

    name: str
    length: Callable[[Size], int]


BATCH = Axis("batch", lambda size: size.batch)


def picture_axes(step: int, level: int = 0) -> tuple[Axis, Axis]:
    """Height and width of what has one value for `step` pixels, halved (and rounded up) `level` times."""
    halvings = 2**level

    def shrink(pixels: int) -> int:
        return -(-(pixels // step) // halvings)

    suffix = "" if step == 1 else f"_{step * halvings}"
    return (
        Axis(f"height{suffix}", lambda size: shrink(size.height)),
        Axis(f"width{suffix}", lambda size: shrink(size.width)),
    )


@dataclass(frozen=True)
class TensorSpecification:
    """One input's dimensions and number type."""

    dimensions: tuple[int | Axis, ...]
    dtype: torch.dtype

    def shape(self, size: Size) -> tuple[int, ...]:
        """The shape at one size."""
        return tuple(d.length(size) if isinstance(d, Axis) else d for d in self.dimensions)

    def axes(self) -> dict[int, str]:
        """The names of the dimensions that change."""
        return {index: d.name for index, d in enumerate(self.dimensions) if isinstance(d, Axis)}


# In the order of ``forward``'s arguments; a list of tensors is one argument.
Inputs = Mapping[str, TensorSpecification | list[TensorSpecification]]


def flatten(inputs: Inputs) -> dict[str, TensorSpecification]:
    """One name for each tensor: that of its argument, in a list with its place after a dot."""
    flat: dict[str, TensorSpecification] = {}
    for name, given in inputs.items():
        if isinstance(given, list):
            flat.update({f"{name}.{place}": tensor for place, tensor in enumerate(given)})
        else:
            flat[name] = given
    return flat


def nest(inputs: Inputs, make: Callable[[TensorSpecification], Any]) -> tuple[Any, ...]:
    """What `make` gives for each tensor, as ``forward`` takes its arguments."""
    return tuple([make(t) for t in given] if isinstance(given, list) else make(given) for given in inputs.values())
