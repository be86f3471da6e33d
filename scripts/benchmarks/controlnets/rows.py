"""Rows of the report: one for each thing that a part measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.runs import GrowingReport, Row

STEPS, PICTURES, DATA_PATH, FAILURES, SOAK = "steps", "pictures", "data_path", "failures", "soak"
UNMEASURED = ("failed", "left_out")  # a row with one of these says why it has no figures


def describe_row(part: str, name: str) -> Row:
    """What a row is about; these two tell it from the others."""
    return {"part": part, "name": name}


def is_same(row: Row, other: Row) -> bool:
    """Whether both are about the same thing."""
    return all(row[key] == other[key] for key in ("part", "name"))


def find_row(rows: Sequence[Row], part: str, name: str) -> Row | None:
    """The row about this, if it has figures."""
    for row in rows:
        if is_same(row, describe_row(part, name)) and not any(word in row for word in UNMEASURED):
            return row
    return None


def read_figure(rows: Sequence[Row], part: str, name: str, figure: str) -> Any:
    """A figure of the row about this, or None where there is none."""
    return (find_row(rows, part, name) or {}).get(figure)


def leave_out(report: GrowingReport, part: str, name: str, why: str) -> None:
    """Say in the report why there are no figures, unless another machine has measured them."""
    if not find_row(report.rows, part, name):
        report.add({**describe_row(part, name), "left_out": why})


def describe_lack(needed: int, gpus: int) -> str:
    """Why something is left out on a machine with too few GPUs."""
    return f"takes {needed} GPU{'s' if needed > 1 else ''}; here: {gpus}"
