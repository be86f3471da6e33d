"""A report that several calls of a benchmark fill, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar
from benchmarks.report import describe_run, write_report
from launch.problems import LaunchError

Row = dict[str, Any]


class GrowingReport:
    """Rows with the run that measured each; the JSON file is rewritten after every one, so a cut-off run keeps them.

    The file holds `benchmark`, `checkpoint`, `note`, `bars`, `runs` (date, command, commit, machine and versions of
    each call) and `rows`, each with its run's place in `runs`.
    """

    def __init__(
        self,
        benchmark: str,
        arguments: list[str],
        path: Path,
        is_same: Callable[[Row, Row], bool],
        judge: Callable[[list[Row]], Mapping[str, Bar]],
        resume: bool,
        **described: Any,
    ) -> None:
        """Begin, or go on where `resume` is asked for and the file is there.

        Args:
            benchmark: its name.
            arguments: of the command line.
            path: the JSON file.
            is_same: whether a new row takes an old one's place.
            judge: the bars of all rows.
            resume: keep the rows that are there.
            described: more about all rows, such as `checkpoint`; another value than in the file raises LaunchError, and
                so do other GPUs, however many.
        """
        self._path, self._is_same, self._judge = path, is_same, judge
        self._described = described
        self.runs: list[dict[str, Any]] = []
        self.rows: list[Row] = []
        if resume and path.exists():
            report = json.loads(path.read_text())
            for name, value in described.items():
                if report.get(name) != value:
                    raise LaunchError(f"{path} has {name} {report.get(name)!r}, not {value!r}: leave out --resume.")
            self.runs, self.rows = report["runs"], report["rows"]
        run = describe_run(benchmark, arguments)
        here = _name_gpus(run)
        for earlier in self.runs:
            if self.rows and _name_gpus(earlier) != here:
                raise LaunchError(
                    f"{path} was measured on {_name_gpus(earlier)}, and here is {here}, which would not be a "
                    "comparison: leave out --resume, or name another folder with --out."
                )
        self._benchmark = run.pop("benchmark")
        self.runs.append(run)

    def has(self, row: Row) -> bool:
        """Whether this one was measured, and did not fail."""
        return any(self._is_same(row, other) and "failed" not in other for other in self.rows)

    def add(self, row: Row) -> None:
        """Put a row in place of the one that is about the same, and write the file."""
        self.rows = [other for other in self.rows if not self._is_same(row, other)]
        self.rows.append({**row, "run": len(self.runs) - 1})
        self.write()

    @property
    def bars(self) -> Mapping[str, Bar]:
        """As far as is known."""
        return self._judge(self.rows)

    def write(self) -> None:
        """Write the JSON file."""
        report = {
            "benchmark": self._benchmark,
            **self._described,
            "bars": {name: bar.as_json() for name, bar in self.bars.items()},
            "runs": self.runs,
            "rows": self.rows,
        }
        write_report(report, self._path)


def _name_gpus(run: Mapping[str, Any]) -> str:
    return ", ".join(sorted({gpu["name"] for gpu in run["machine"]["gpus"]})) or "no GPU"
