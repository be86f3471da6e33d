"""A report that grows row by row, on the disk after each, so that a run that is cut off can go on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar
from benchmarks.report import write_report
from launch.problems import LaunchError

Judge = Callable[[Mapping[str, Any]], Mapping[str, Bar]]
SAME = ("commit", "machine", "versions")  # figures of different ones do not belong into one report


class Rows:
    """What was measured, by part and row; `report` is the whole JSON file."""

    def __init__(
        self, path: Path, run: Mapping[str, Any], settings: Mapping[str, Any], judge: Judge, resume: bool
    ) -> None:
        """Begin a report, or go on with the one that is there.

        Args:
            path: of the JSON file.
            run: what `describe_run` gave.
            settings: what a figure depends on, by part.
            judge: gives the bars.
            resume: keep the rows that are there.

        Raises:
            LaunchError: they were measured by another commit, machine or version, or with other settings.
        """
        self._path = path
        self._judge = judge
        self.report: dict[str, Any] = {**run, "commands": [run["command"]], "settings": dict(settings)}
        del self.report["command"]
        if resume and path.exists():
            self._go_on(run, settings)

    def measure(self, part: str, row: str, work: Callable[[], Any]) -> Any:
        """Give a row, measured now if it is not there yet, and on the disk when this returns."""
        rows = self.report.setdefault(part, {})
        if row not in rows:
            rows[row] = work()
            self.save()
        return rows[row]

    def has(self, part: str, row: str) -> bool:
        """Whether a row is there."""
        return row in self.report.get(part, {})

    def save(self) -> None:
        """Write the file, the bars judged anew."""
        self.report["bars"] = {name: bar.as_json() for name, bar in self._judge(self.report).items()}
        write_report(self.report, self._path)

    def _go_on(self, run: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        before = json.loads(self._path.read_text())
        differing = [name for name in SAME if before.get(name) != run[name]]
        differing += [
            f"settings of {part}" for part in before["settings"] if before["settings"][part] != settings[part]
        ]
        if differing:
            raise LaunchError(
                f"--resume finds another {', another '.join(differing)} in {self._path}: "
                "move it away, or measure all of it anew."
            )
        before["commands"] += self.report["commands"]
        self.report = before
