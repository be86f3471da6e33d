"""A report that several calls of a benchmark fill, row by row, one after the other or at the same time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar
from benchmarks.report import describe_run, write_report
from launch.problems import LaunchError
from launch.turns import one_at_a_time

Row = dict[str, Any]


class GrowingReport:
    """Rows with the run that measured each; the JSON file is rewritten after every one, so a cut-off run keeps them.

    The file holds `benchmark`, `checkpoint`, `note`, `bars`, `runs` (date, command, commit, machine and versions of
    each call) and `rows`, each with its run's place in `runs`. Calls that resume one file at the same time keep each
    other's rows: it is read again, with a lock, before each change.
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
        self._run = describe_run(benchmark, arguments)
        self._benchmark = self._run.pop("benchmark")
        self._keeps_file = resume
        self.runs: list[dict[str, Any]] = []
        self.rows: list[Row] = []
        self._read()

    def has(self, row: Row) -> bool:
        """Whether this one was measured, and did not fail."""
        return any(self._is_same(row, other) and "failed" not in other for other in self.rows)

    def add(self, row: Row) -> None:
        """Put a row in place of the one that is about the same, and write the file."""
        with self._changed():
            self._leave_out(row)
            self.rows.append({**row, "run": self.runs.index(self._run)})

    def remove(self, row: Row) -> None:
        """Leave out the row that is about the same, if there is one, and write the file."""
        with self._changed():
            self._leave_out(row)

    @property
    def bars(self) -> Mapping[str, Bar]:
        """As far as is known."""
        return self._judge(self.rows)

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """Read what others have written, have it changed, and write it, while no other call does."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(self._path.parent):
            self._read()
            yield
            self._write()
            self._keeps_file = True

    def _leave_out(self, row: Row) -> None:
        self.rows = [other for other in self.rows if not self._is_same(row, other)]

    def _read(self) -> None:
        """Take over what the file has, unless this call begins anew; raises LaunchError where that does not fit."""
        if self._keeps_file and self._path.exists():
            report = json.loads(self._path.read_text())
            for name, value in self._described.items():
                if report.get(name) != value:
                    raise LaunchError(
                        f"{self._path} has {name} {report.get(name)!r}, not {value!r}: leave out --resume."
                    )
            self.runs, self.rows = report["runs"], report["rows"]
        here = _name_gpus(self._run)
        for earlier in self.runs:
            if self.rows and _name_gpus(earlier) != here:
                raise LaunchError(
                    f"{self._path} was measured on {_name_gpus(earlier)}, and here is {here}, which would not be a "
                    "comparison: leave out --resume, or name another folder with --out."
                )
        if self._run not in self.runs:
            self.runs.append(self._run)

    def _write(self) -> None:
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
