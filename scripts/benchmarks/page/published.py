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

FILE = Path(__file__).with_name("published.json")
HEADER = ("ControlNets/LoRAs", "published: Diffusers, s", "DistriFusion (GPUs)", "Katz (GPUs)", "Katz's ratio",
          "here: stock, s", "best, s", "ours (GPUs)", "stock / ours", "best / ours")  # fmt: skip


def compare_with_published(report: Mapping[str, Any]) -> str:
    """A table of both at 50 steps, and what is different about the two machines; raises nothing for missing rows."""
    published = json.loads(FILE.read_text())
    lines = [_line(add_ons, figures, report["rows"]) for add_ons, figures in published["rows"].items()]
    ours = sorted({gpu["name"] for run in report["runs"] for gpu in run["machine"]["gpus"]}) or ["no GPU"]
    differences = [
        f"Published: {published['source']}; {published['hardware']}; {published['setting']}.",
        f"Here: {', '.join(ours)}; {report['checkpoint']}"
        + (f" ({report['note']})" if report["note"] else "")
        + "; seconds are the client's, through tritonserver. Seconds of one machine say nothing of the other's: what "
        "can be compared are the ratios, each to stock diffusers on the same GPUs.",
        *published["notes"],
    ]
    return "\n\n".join([format_table(HEADER, lines), "\n".join(f"- {text}" for text in differences)])


def _line(add_ons: str, figures: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    def fastest(system: str) -> Row | None:
        mine = [
            row
            for row in rows
            if (row["system"], row["add_ons"], row["steps"]) == (system, add_ons, STEPS) and "mean_s" in row
        ]
        return min(mine, key=lambda row: row["mean_s"], default=None)

    stock, best, ours = map(fastest, (STOCK, BEST, OURS))
    stock_s, best_s, ours_s = (None if row is None else float(row["mean_s"]) for row in (stock, best, ours))
    return [
        add_ons,
        f"{figures['diffusers_s']:.2f}",
        f"{figures['distrifusion_s']:.2f} ({figures['distrifusion_gpus']})",
        f"{figures['katz_s']:.2f} ({figures['katz_gpus']})",
        f"{figures['katz_ratio']:.2f}×",
        _show(stock_s),
        _show(best_s),
        f"{ours['mean_s']:.2f} ({ours['gpus']})" if ours else "–",
        _show(divide(stock_s, ours_s), "×"),
        _show(divide(best_s, ours_s), "×"),
    ]


def _show(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.2f}{unit}"
