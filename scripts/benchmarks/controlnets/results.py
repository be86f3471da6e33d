"""The rows for a person: a table, and charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from PIL import Image

from benchmarks.bars import Bar, format_bars
from benchmarks.chart import draw_chart
from benchmarks.controlnets.configurations import CONFIGURATIONS
from benchmarks.controlnets.rows import DATA_PATH, FAILURES, PICTURES, SOAK, STEPS, UNMEASURED, find_row
from benchmarks.report import name_machine
from benchmarks.runs import Row
from benchmarks.table import format_table

CHART = {
    "ms": {"one GPU": ("none", "near"), "two GPUs": ("", "far"), "split": ("split", "split_both")},
    "beside the encoder half, ms": {"one GPU": ("none", "near_beside")},
    "residuals by BLS, ms": {"one GPU": ("none", "near_bls"), "two GPUs": ("", "far_bls")},
}
"""Panels, groups in them, and the configurations of their bars: without and with a ControlNet."""
LABELS = {one.name: one.label for one in CONFIGURATIONS}
HELD = {
    "GPUs, MiB more": "gpus_mib",
    "/dev/shm": "shared_mib",
    "server": "server_mib",
    "its threads": "server_threads",
    "models": "models_mib",
    "their threads": "models_threads",
}


def _show_growth(kind: str, row: Row) -> str:
    growth = row[f"{kind}_growth"]
    return "–" if growth is None else f"{growth:g}"


def _show_gpus(row: Row) -> str:
    return ", ".join(map(str, row["gpus"])) or "none"


GROWTH: dict[str, Callable[[Row], Any]] = {title: partial(_show_growth, kind) for title, kind in HELD.items()}
SECTIONS: dict[str, tuple[str, dict[str, Callable[[Row], Any]]]] = {
    STEPS: (
        "step",
        {
            "ms": lambda row: f"{row['step_ms']:.2f}",
            "request, s": lambda row: f"{row['request_s']:.3f}",
            "steps": lambda row: "–".join(map(str, row["steps"])),
            "transport": lambda row: ", ".join(one["transport"] for one in row["controlnets"]),
        },
    ),
    PICTURES: (
        "pictures",
        {
            "steps": lambda row: row["steps"],
            "max difference, of 255": lambda row: row["max_difference"],
            "mean": lambda row: f"{row['mean_difference']:.3f}",
            "relative": lambda row: row["relative"],
        },
    ),
    DATA_PATH: (
        "data path, 2 × 1024 × 1024",
        {
            "MB": lambda row: row["megabytes"],
            "step, ms": lambda row: row["step_ms"],
            "back to back, ms": lambda row: row["back_to_back_ms"],
            "attach, ms": lambda row: row["attach_ms"],
            "release, ms": lambda row: row["release_ms"],
        },
    ),
    FAILURES: (
        "failures, seconds of the slowest",
        {
            "checkpoint": lambda row: row["checkpoint"],
            "ControlNet's, lane's GPU": _show_gpus,
            "transport": lambda row: row["controlnet"]["transport"],
            "kills": lambda row: row["kills"],
            "clean errors": lambda row: row["clean"],
            "error, s": lambda row: row["slowest_error_s"],
            "next right": lambda row: row["following_right"],
            "next, s": lambda row: row["slowest_following_s"],
            "repaired right": lambda row: row["repaired_right"],
            "repair, s": lambda row: row["slowest_repair_s"],
            **GROWTH,
        },
    ),
    SOAK: (
        "soak",
        {
            "checkpoint": lambda row: row["checkpoint"],
            "ControlNets', lane's GPU": _show_gpus,
            "transport": lambda row: ", ".join(row["transports"]),
            "requests": lambda row: row["requests"],
            "right": lambda row: row["right"],
            "evictions": lambda row: row["evictions"],
            **GROWTH,
        },
    ),
}


def format_rows(rows: Sequence[Row], bars: Mapping[str, Bar], runs: Sequence[Mapping[str, Any]]) -> str:
    """A table for each part and where it was measured, what has no figures and why, and the bars."""
    parts: list[str] = []
    for part, (title, columns) in SECTIONS.items():
        some = [row for row in rows if row["part"] == part and not _why(row)]
        if some:
            cells = [[_label(row), *(str(show(row)) for show in columns.values())] for row in some]
            parts += [format_table([title, *columns], cells), *_say_where(some, runs)]
    missing = [f"{row['part']}, {_label(row)}: {_why(row)}" for row in rows if _why(row)]
    return "\n\n".join([*parts, *missing, format_bars(bars)])


def _say_where(rows: Sequence[Row], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    measured = [runs[row["run"]] for row in rows if "run" in row]
    places = sorted({f"on {name_machine(run['machine'])}, {run['date'][:10]}" for run in measured})
    return [f"Measured {'; '.join(places)}."] if places else []


def draw_rows(rows: Sequence[Row], checkpoint: str) -> Image.Image:
    """A step's time in each configuration as bars."""

    def step(name: str) -> float | None:
        row = find_row(rows, STEPS, name)
        return None if row is None else row["step_ms"]

    series = ["no ControlNet", "one ControlNet"]
    panels = {
        title: {group: dict(zip(series, map(step, names), strict=True)) for group, names in groups.items()}
        for title, groups in CHART.items()
    }
    title = f"{checkpoint}: a step, one request at a time"
    return draw_chart(title, "through tritonserver; shorter is better", series, panels)


def _label(row: Row) -> str:
    return (
        LABELS.get(row["name"], row["name"].replace("_", " "))
        if row["part"] == STEPS
        else row["name"].replace("_", " ")
    )


def _why(row: Row) -> str:
    return next((f"{word.replace('_', ' ')}: {row[word]}" for word in UNMEASURED if word in row), "")
