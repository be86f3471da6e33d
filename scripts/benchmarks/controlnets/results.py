"""The rows for a person: a table, and charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from benchmarks.bars import Bar, format_bars
from benchmarks.chart import draw_chart
from benchmarks.controlnets.configurations import CONFIGURATIONS
from benchmarks.controlnets.rows import DATA_PATH, FAILURES, PICTURES, SOAK, STEPS, UNMEASURED, find_row
from benchmarks.runs import Row
from benchmarks.table import format_table

CHART = {
    "ms": {"one GPU": ("none", "near"), "two GPUs": ("", "far"), "split": ("split", "split_far")},
    "residuals by BLS, ms": {"one GPU": ("none", "near_bls"), "two GPUs": ("", "far_bls")},
}
"""Panels, groups in them, and the configurations of their bars: without and with a ControlNet."""
LABELS = {one.name: one.label for one in CONFIGURATIONS}
GROWTH: dict[str, Callable[[Row], Any]] = {
    "GPUs, MiB more": lambda row: row["gpus_growth_mib"],
    "/dev/shm": lambda row: row["shared_growth_mib"],
    "host": lambda row: row["host_growth_mib"],
}
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
            "kills": lambda row: row["kills"],
            "transport": lambda row: row["controlnet"]["transport"],
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
            "requests": lambda row: row["requests"],
            "right": lambda row: row["right"],
            "evictions": lambda row: row["evictions"],
            **GROWTH,
        },
    ),
}


def format_rows(rows: Sequence[Row], bars: Mapping[str, Bar]) -> str:
    """A table for each part, what has no figures and why, and the bars."""
    parts = [
        format_table([title, *columns], [[_label(row), *(str(show(row)) for show in columns.values())] for row in some])
        for part, (title, columns) in SECTIONS.items()
        if (some := [row for row in rows if row["part"] == part and not _why(row)])
    ]
    missing = [f"{row['part']}, {_label(row)}: {_why(row)}" for row in rows if _why(row)]
    return "\n\n".join([*parts, *missing, format_bars(bars)])


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
