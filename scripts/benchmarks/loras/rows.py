"""The report's rows: what was measured, by part and name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.runs import GrowingReport, Row

Parts = Mapping[str, Mapping[str, Any]]
"""Part ▶ name ▶ figures."""


class Rows:
    """Measures each row once."""

    def __init__(self, report: GrowingReport) -> None:
        self._report = report

    @property
    def parts(self) -> Parts:
        """What is known by now."""
        return arrange(self._report.rows)

    def has(self, part: str, name: str) -> bool:
        """Whether a row is there."""
        return self._report.has({"part": part, "name": name})

    def measure(self, part: str, name: str, work: Callable[[], Mapping[str, Any]]) -> None:
        """Measure a row if it is not there yet; it is on the disk when this returns."""
        if not self.has(part, name):
            self._report.add({"part": part, "name": name, **work()})


def is_same(row: Row, other: Row) -> bool:
    """Whether both are about the same."""
    return (row["part"], row["name"]) == (other["part"], other["name"])


def arrange(rows: Iterable[Row]) -> Parts:
    """The rows' figures by part and name."""
    parts: dict[str, dict[str, Any]] = {}
    for row in rows:
        figures = {key: value for key, value in row.items() if key not in ("part", "name", "run")}
        parts.setdefault(row["part"], {})[row["name"]] = figures
    return parts
