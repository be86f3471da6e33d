"""What the algorithms' shapes have in common."""

import math
from collections.abc import Mapping, Sequence

from swiftdiffusion.adapters.targets import Shape


class MissingPartError(Exception):
    """A layer lacks the part that the message names."""


def require(shapes: Mapping[str, Shape], parts: Sequence[str]) -> None:
    """Raise `MissingPartError` for the first of `parts` that is not there."""
    for part in parts:
        if part not in shapes:
            raise MissingPartError(part)


def rank_of(shape: Shape, dimension: int) -> int:
    """The rank that a factor's shape tells, at least 1, so that an empty factor is the one that is wrong."""
    return max(shape[dimension], 1) if dimension < len(shape) else 1


def flatten(weight: Shape) -> tuple[int, int]:
    """A weight's shape as a matrix of its rows."""
    return weight[0], math.prod(weight[1:])
