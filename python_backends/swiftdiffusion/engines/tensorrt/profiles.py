"""Which of a plan's optimisation profiles takes a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swiftdiffusion.engines.tensorrt.records import Profile, Size
from swiftdiffusion.errors import InvalidArgument

Shape = tuple[int, ...]
Ranges = Mapping[str, tuple[Shape, Shape]]  # of one profile: the least and the greatest shape of each input


def read_ranges(engine: Any, inputs: Sequence[str]) -> list[Ranges]:
    """The ranges of each profile of a deserialised plan, for its inputs by name."""

    def read(name: str, place: int) -> tuple[Shape, Shape]:
        low, _, high = engine.get_tensor_profile_shape(name, place)
        return tuple(low), tuple(high)

    return [{name: read(name, place) for name in inputs} for place in range(engine.num_optimization_profiles)]


def find_profile(profiles: Sequence[Profile], ranges: Sequence[Ranges], shapes: Mapping[str, Shape]) -> int:
    """The place of the narrowest profile that takes all shapes: for fewer sizes TensorRT finds faster kernels.

    Args:
        profiles: as the plan's record names them.
        ranges: as `read_ranges` gives them, in the same order.
        shapes: of all inputs.

    Raises:
        InvalidArgument: there is none; names an input, its shape, what is allowed, and the profiles.
    """
    misfits = [[name for name, shape in shapes.items() if not _fits(shape, *known[name])] for known in ranges]
    if fitting := [place for place, names in enumerate(misfits) if not names]:
        return min(fitting, key=lambda place: profiles[place].breadth)
    nearest = min(range(len(misfits)), key=lambda place: len(misfits[place]))
    name = misfits[nearest][0]
    low, high = ranges[nearest][name]
    raise InvalidArgument(
        f"no profile of the plan takes these sizes: {name!r} is {tuple(shapes[name])}; allowed: {low} to {high}; "
        f"the profiles are {', '.join(map(str, profiles))}"
    )


def require_size(profiles: Sequence[Profile], size: Size) -> None:
    """Raise `InvalidArgument` for a size that no profile takes; names those that there are."""
    if not any(profile.takes(size) for profile in profiles):
        raise InvalidArgument(
            f"{size.batch} samples of width {size.width} and height {size.height} fit no profile of the plan; "
            f"allowed, as samples x height x width: {', '.join(map(str, profiles))}"
        )


def _fits(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> bool:
    return len(shape) == len(low) and all(least <= n <= most for least, n, most in zip(low, shape, high, strict=True))
