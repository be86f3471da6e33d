"""Bars: figures that a benchmark promises, judged by what was measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.table import format_table

VERDICTS = {True: "met", False: "missed", None: "not measured"}


@dataclass(frozen=True)
class Bar:
    """One promise: `figure` is to be at most `bar`, or `at_least` so much; None where it could not be measured."""

    figure: float | None
    bar: float
    meaning: str
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it is kept; None where that is not known."""
        if self.figure is None:
            return None
        return self.figure >= self.bar if self.at_least else self.figure <= self.bar

    def as_json(self) -> dict[str, Any]:
        """For a report's object `bars`."""
        figure = None if self.figure is None else round(self.figure, 4)
        return {**asdict(self), "figure": figure, "met": self.met}


def format_bars(bars: Mapping[str, Bar], note: str = "") -> str:
    """A table of promises, figures and verdicts."""
    rows = [
        [
            bar.meaning,
            "–" if bar.figure is None else f"{bar.figure:.3g}",
            f"{'≥' if bar.at_least else '≤'} {bar.bar:g}",
            VERDICTS[bar.met],
        ]
        for bar in bars.values()
    ]
    return format_table([f"bar{note}", "figure", "bar", ""], rows)


def divide(dividend: float | None, divisor: float | None) -> float | None:
    """Their ratio, or None where one is missing or the divisor is 0."""
    return None if dividend is None or not divisor else dividend / divisor
