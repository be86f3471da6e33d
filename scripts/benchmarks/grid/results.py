"""The grid for a person: a table, and a chart of the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from benchmarks.bars import Bar, format_bars
from benchmarks.chart import draw_chart
from benchmarks.grid.rows import Row
from benchmarks.serving.systems import BEST, LABELS, OURS, STOCK
from benchmarks.table import format_table

HEADER = ("steps, add-ons", "system", "mean, s", "p50", "p95", "p99", "GPUs", "images/GPU-min", "memory, GB", "outside")


def format_rows(rows: Sequence[Row], bars: Mapping[str, Bar]) -> str:
    """A line for each row, ordered by steps and add-ons, and the bars."""
    lines = [_format(row) for row in order(rows)]
    failures = [f"{row['system']}, {row['add_ons']}: {row['failed']}" for row in rows if "failed" in row]
    return "\n\n".join([format_table(HEADER, lines), *failures, format_bars(bars)])


def order(rows: Sequence[Row]) -> list[Row]:
    """Most steps first, then as the rows came, the systems of one configuration together."""
    places = {row["add_ons"]: place for place, row in reversed([*enumerate(rows)])}
    systems = list(LABELS)
    return sorted(rows, key=lambda row: (-row["steps"], places[row["add_ons"]], systems.index(row["system"])))


def draw_rows(rows: Sequence[Row], checkpoint: str) -> Image.Image:
    """The means as bars, a panel for each number of steps."""
    measured = [row for row in order(rows) if "failed" not in row]
    panels: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in sorted(measured, key=lambda row: bool(row["lane"]), reverse=True):  # plain rows have the last word
        groups = panels.setdefault(f"{row['steps']} steps, mean, s", {})
        groups.setdefault(row["add_ons"], dict.fromkeys(LABELS.values()))[LABELS[row["system"]]] = row["mean_s"]
    title = f"{checkpoint}: ControlNets/LoRAs, one request at a time"
    series = [LABELS[system] for system in (STOCK, BEST, OURS)]
    return draw_chart(title, "through tritonserver; shorter is better", series, panels or {"": {}})


def _format(row: Row) -> list[str]:
    parameters = "".join(f", {name}={value}" for name, value in row["lane"].items())
    first = [f"{row['steps']}, {row['add_ons']}", LABELS[row["system"]] + parameters]
    if "failed" in row:
        return [*first, "failed", *[""] * (len(HEADER) - 3)]
    memory, outside = row["peak_memory_gb"], row.get("outside")
    return [
        *first,
        *(f"{row[name]:.3f}" for name in ("mean_s", "p50_s", "p95_s", "p99_s")),
        str(row["gpus"]),
        f"{row['images_per_gpu_minute']:.2f}",
        "–" if memory is None else f"{max(memory):.1f}",
        "–" if not outside else f"{outside['share']:.1%}",
    ]
