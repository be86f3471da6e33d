"""Prices of the shortcuts: how pictures differ from the reference's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.bars import Bar, format_bars
from benchmarks.quality.distance import FeatureDistance
from benchmarks.quality.subjects import SETS, Picture, Subject
from benchmarks.similarity import measure_ssim
from benchmarks.table import format_table

Row = dict[str, Any]
REFERENCE = "reference"
FIGURES = {"right_percent": "right, %", "ssim": "SSIM", "distance": "distance", "max_difference": "max of 255"}


def is_same(row: Row, other: Row) -> bool:
    """Whether both are about the same shortcut."""
    return row["variant"] == other["variant"]


def compare(
    subjects: Sequence[Subject], drawn: Sequence[Picture], reference: Sequence[Picture], distance: FeatureDistance
) -> dict[str, float]:
    """The judge's share of pictures that are right, and means of likeness to the reference's."""
    pairs = list(zip(drawn, reference, strict=True))
    right = [subject.is_right(picture) for subject, picture in zip(subjects, drawn, strict=True)]
    return {
        "right_percent": round(100 * float(np.mean(right)), 2),
        "ssim": round(float(np.mean([measure_ssim(*pair) for pair in pairs])), 5),
        "distance": float(f"{np.mean([distance.measure(*pair) for pair in pairs]):.4g}"),
        "max_difference": int(max(np.abs(one.astype(int) - other).max() for one, other in pairs)),
    }


def judge(rows: Sequence[Row]) -> dict[str, Bar]:
    """What is promised of pictures."""
    by_name = {row["variant"]: row for row in rows if "failed" not in row}

    def lose(variant: str) -> float | None:
        if variant not in by_name or REFERENCE not in by_name:
            return None
        shared = by_name[variant]["sets"].keys() & by_name[REFERENCE]["sets"].keys()
        lost = [
            by_name[REFERENCE]["sets"][kind]["right_percent"] - by_name[variant]["sets"][kind]["right_percent"]
            for kind in shared
        ]
        return max(lost, default=None)

    exact = by_name.get("exact", {}).get("sets", {})
    largest = max((figures["max_difference"] for figures in exact.values()), default=None)
    return {
        "exact_max_difference": Bar(largest, 1, "largest difference of a pixel from stock diffusers in fp32, exact"),
        "points_lost_default": Bar(lose("default"), 1.0, "points of the judge lost as it is served, the worst set"),
    }


def format_rows(rows: Sequence[Row], bars: Mapping[str, Bar]) -> str:
    """A line for each shortcut, a column for each set and figure, and the bars."""
    header = ["drawn by", *(f"{kind}: {name}" for kind in SETS for name in FIGURES.values())]
    failures = [f"{row['label']}: {row['failed']}" for row in rows if "failed" in row]
    lines = [
        [row["label"], *(_show(row["sets"].get(kind), figure) for kind in SETS for figure in FIGURES)]
        for row in rows
        if "failed" not in row
    ]
    return "\n\n".join([format_table(header, lines), *failures, format_bars(bars)])


def _show(figures: Mapping[str, float] | None, name: str) -> str:
    if figures is None:
        return ""
    value = figures[name]
    return {"right_percent": f"{value:.1f}", "ssim": f"{value:.4f}", "distance": f"{value:.2g}"}.get(name, f"{value}")
