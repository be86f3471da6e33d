"""Bars: figures that a benchmark promises, judged by what was measured."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """One promise: `figure` is to be at most `bar`; None where it could not be measured."""

    figure: float | None
    bar: float
    meaning: str

    @property
    def met(self) -> bool | None:
        """Whether it is kept; None where that is not known."""
        return None if self.figure is None else self.figure <= self.bar

    def as_json(self) -> dict[str, Any]:
        """For a report's object `bars`."""
        figure = None if self.figure is None else round(self.figure, 4)
        return {**asdict(self), "figure": figure, "met": self.met}


def divide(dividend: float | None, divisor: float | None) -> float | None:
    """Their ratio, or None where one is missing or the divisor is 0."""
    return None if dividend is None or not divisor else dividend / divisor
