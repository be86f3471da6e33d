"""A request's tensors, read one input at a time by type, with bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.errors import InvalidArgument, shorten
from swiftdiffusion.signature import Arrays

_NOTHING = np.empty(0, np.object_)


class Inputs:
    """Inputs by name; every reader raises `InvalidArgument`, naming the input, its value and what is allowed."""

    def __init__(self, tensors: Arrays) -> None:
        self._tensors = tensors

    def values(self, name: str) -> list[Any]:
        """All elements of an input; none where it was not sent."""
        values = self._tensors.get(name, _NOTHING).reshape(-1)
        if values.dtype == np.float32:  # 0.8, not 0.800000011920929: the number that was meant
            return [float(str(value)) for value in values]
        return values.tolist()

    def one(self, name: str, default: Any) -> Any:
        """The only element, or `default`."""
        values = self.values(name)
        if len(values) > 1:
            raise InvalidArgument(f"{name} has {len(values)} values; one is allowed")
        return values[0] if values else default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        value = int(self.one(name, default))
        if not low <= value <= high:
            raise InvalidArgument(f"{name} is {value}; allowed: {low} to {high}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A finite number in [low, high]."""
        return _check_number(name, float(self.one(name, default)), low, high)

    def boolean(self, name: str, default: bool) -> bool:
        """True or false."""
        return bool(self.one(name, default))

    def texts(self, name: str) -> list[str]:
        """All elements as UTF-8 text."""
        try:
            return [value.decode() if isinstance(value, bytes) else str(value) for value in self.values(name)]
        except UnicodeDecodeError:
            raise InvalidArgument(f"{name} is not UTF-8 text") from None

    def text(self, name: str, default: str) -> str:
        """The only text, or `default`."""
        self.one(name, default)
        texts = self.texts(name)
        return texts[0] if texts else default

    def choice(self, name: str, default: str, allowed: Sequence[str]) -> str:
        """A text out of `allowed`."""
        value = self.text(name, default)
        if value not in allowed:
            raise InvalidArgument(f"{name} is {shorten(value)}; allowed: {', '.join(allowed)}")
        return value

    def array(self, name: str, *sides: tuple[int, int]) -> NDArray[Any]:
        """All elements in their shape, whose sides lie in these [low, high]."""
        array = self._tensors.get(name, _NOTHING)
        if array.ndim != len(sides) or not all(
            low <= side <= high for side, (low, high) in zip(array.shape, sides, strict=True)
        ):
            allowed = ", ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in sides)
            raise InvalidArgument(f"{name} has shape {list(array.shape)}; allowed: [{allowed}]")
        return array

    def numbers_for(self, name: str, owner: str, count: int, default: float, low: float, high: float) -> list[float]:
        """One number for each name in `owner`; `default` for all where the input was not sent."""
        values = [float(value) for value in self.values(name)] or [default] * count
        if len(values) != count:
            raise InvalidArgument(f"{name} has {len(values)} values and {owner} {count} names; one for each is needed")
        return [_check_number(f"{name}[{index}]", value, low, high) for index, value in enumerate(values)]


def require_count(name: str, count: int, high: int) -> None:
    """Refuse more than `high` names in an input, with InvalidArgument."""
    if count > high:
        raise InvalidArgument(f"{name} has {count} names; at most {high} are allowed")


def _check_number(label: str, value: float, low: float, high: float) -> float:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidArgument(f"{label} is {value:g}; allowed: {low:g} to {high:g}")
    return value
