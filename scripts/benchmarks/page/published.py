"""The published figures, and ours beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import divide
from benchmarks.grid.promises import STEPS
from benchmarks.grid.rows import Row
from benchmarks.serving.systems import BEST, OURS, STOCK
from benchmarks.table import format_table

PLAIN = "0/0"
FILE = Path(__file__).with_name("published.json")
HEADER = ("ControlNets/LoRAs", "published: Diffusers, s (GPUs)", "DistriFusion", "Katz", "Diffusers / Katz", "a GPU",
          "here, on", "stock, s (GPUs)", "best", "ours", "stock / ours", "a GPU", "best / ours")  # fmt: skip


def compare_with_published(report: Mapping[str, Any]) -> str:
    """A table of both at 50 steps, and what is different about the two machines; raises nothing for missing rows."""
    published = json.loads(FILE.read_text())
    at_50 = [row for row in report["rows"] if row["steps"] == STEPS and "mean_s" in row]
    lines = [line for add_ons, figures in published["rows"].items() for line in _lines(add_ons, figures, at_50)]
    ours = sorted({gpu["name"] for run in report["runs"] for gpu in run["machine"]["gpus"]}) or ["no GPU"]
    differences = [
        f"Published: {published['source']}; {published['hardware']}; {published['setting']}.",
        f"Here: {', '.join(ours)}; {report['checkpoint']}"
        + (f" ({report['note']})" if report["note"] else "")
        + "; seconds are the client's, through tritonserver. Seconds of one machine say nothing of the other's: what "
        "can be compared are the ratios, each to diffusers on one GPU of the same machine. Beside each ratio it stands "
        "divided by the GPUs that it took: what is left of it in pictures per GPU.",
        *_compare_machines(published["rows"], at_50, published["hardware"]),
        *published["notes"],
    ]
    return "\n\n".join([format_table(HEADER, lines), "\n".join(f"- {text}" for text in differences)])


def _lines(add_ons: str, figures: Mapping[str, Any], rows: Sequence[Row]) -> list[list[str]]:
    """A line for each machine and number of GPUs that worked on ours, one at least."""
    mine = [row for row in rows if row["add_ons"] == add_ons]
    published = [
        add_ons,
        f"{figures['diffusers_s']:.2f} (1)",
        f"{figures['distrifusion_s']:.2f} ({figures['distrifusion_gpus']})",
        f"{figures['katz_s']:.2f} ({figures['katz_gpus']})",
        f"{figures['katz_ratio']:.2f}×",
        f"{figures['katz_ratio'] / figures['katz_gpus']:.2f}×",
    ]
    lines = []
    for machine in sorted({row["machine"] for row in mine}) or ["–"]:
        here = [row for row in mine if row["machine"] == machine]
        stock, best = _find_fastest(here, STOCK), _find_fastest(here, BEST)
        for gpus in sorted({row["gpus"] for row in here if row["system"] == OURS}) or [0]:
            ours = _find_fastest([row for row in here if row["gpus"] == gpus], OURS)
            faster = _compare(stock, ours)
            lines.append(
                [
                    *published,
                    machine,
                    *(f"{row['mean_s']:.2f} ({row['gpus']})" if row else "–" for row in (stock, best, ours)),
                    _show(faster),
                    _show(divide(faster, float(ours["gpus"])) if ours else None),
                    _show(_compare(best, ours)),
                ]
            )
    return lines


def _compare_machines(published: Mapping[str, Any], rows: Sequence[Row], hardware: str) -> list[str]:
    """What the machines make of the same program, stock diffusers without add-ons, where that was measured."""
    plain = [row for row in rows if row["add_ons"] == PLAIN and row["system"] == STOCK]
    times = ", ".join(f"{row['mean_s'] / published[PLAIN]['diffusers_s']:.2f} ({row['machine']})" for row in plain)
    if not plain:
        return []
    return [
        f"Stock diffusers without add-ons takes so many times as long here, in its version of now, as published "
        f"({hardware}, its version of then): {times}. The host has to launch its thousands of kernels in time, so its "
        "seconds are as much the host's as the GPU's."
    ]


def _find_fastest(rows: Sequence[Row], system: str) -> Row | None:
    return min((row for row in rows if row["system"] == system), key=lambda row: row["mean_s"], default=None)


def _compare(slow: Row | None, fast: Row | None) -> float | None:
    return divide(float(slow["mean_s"]), float(fast["mean_s"])) if slow and fast else None


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}×"
