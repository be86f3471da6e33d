"""The grid for a person: a table, and a chart of the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from benchmarks.bars import Bar, format_bars
from benchmarks.chart import draw_chart
from benchmarks.grid.rows import Row
from benchmarks.serving.systems import BEST, LABELS, OURS, PUBLISHED, STOCK, name_place
from benchmarks.table import format_table

HEADER = ("steps, add-ons", "system", "models on", "GPUs at work", "requests", "mean, s", "p50", "p95", "p99",
          "images/GPU-min", "memory, GB", "outside")  # fmt: skip


def format_rows(rows: Sequence[Row], bars: Mapping[str, Bar]) -> str:
    """A line for each row, ordered by steps and add-ons, and the bars."""
    lines = [_format(row, name_place(row, rows)) for row in order(rows)]
    failures = [f"{row['system']}, {row['add_ons']}: {row['failed']}" for row in rows if "failed" in row]
    return "\n\n".join([format_table(HEADER, lines), *failures, *format_outside(rows), format_bars(bars)])


def format_outside(rows: Sequence[Row]) -> list[str]:
    """Where our time outside the networks is, in ms, with a column for each stage; nothing where it is not known."""
    measured = [row for row in order(rows) if row.get("outside")]
    names = list(dict.fromkeys(name for row in measured for name in row["outside"]["parts"]))
    lines = [
        [
            f"{row['steps']}, {row['add_ons']}, {name_place(row, rows)}{_format_lane(row)}",
            f"{1000 * row['outside']['seconds']:.1f}",
            *(f"{1000 * row['outside']['parts'].get(name, 0.0):.1f}" for name in names),
        ]
        for row in measured
    ]
    return [format_table(["outside the networks, ms", "all", *names], lines)] if lines else []


def order(rows: Sequence[Row]) -> list[Row]:
    """Most steps first, then as published, the others behind; the systems of one configuration together."""
    published, systems = [*map(str, PUBLISHED)], list(LABELS)

    def find_place(row: Row) -> tuple[int, int, str, int, str, str]:
        add_ons = row["add_ons"]
        place = published.index(add_ons) if add_ons in published else len(published)
        return -row["steps"], place, add_ons, systems.index(row["system"]), row["machine"], row["layout"]

    return sorted(rows, key=find_place)


def draw_rows(rows: Sequence[Row], checkpoint: str) -> Image.Image:
    """The means as bars, a panel for each number of steps."""
    measured = [row for row in order(rows) if "failed" not in row]
    by_system = sorted(measured, key=lambda row: (STOCK, BEST, OURS).index(row["system"]))
    series = list(dict.fromkeys(_name_series(row, rows) for row in by_system))
    panels: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in measured:
        groups = panels.setdefault(f"{row['steps']} steps, mean, s", {})
        groups.setdefault(row["add_ons"], dict.fromkeys(series))[_name_series(row, rows)] = row["mean_s"]
    title = f"{checkpoint}: ControlNets/LoRAs, one request at a time"
    return draw_chart(title, "through tritonserver; shorter is better", series, panels or {"": {}})


def _name_series(row: Row, rows: Sequence[Row]) -> str:
    return f"{LABELS[row['system']]}, {name_place(row, rows)}{_format_lane(row)}"


def _format_lane(row: Row) -> str:
    return "".join(f", {name}={value}" for name, value in row["lane"].items())


def _format(row: Row, place: str) -> list[str]:
    first = [f"{row['steps']}, {row['add_ons']}", LABELS[row["system"]] + _format_lane(row), place]
    if "failed" in row:
        return [*first, "failed", *[""] * (len(HEADER) - 4)]
    memory, outside = row["peak_memory_gb"], row.get("outside")
    return [
        *first,
        str(row["gpus"]),
        str(row["requests"]),
        *(f"{row[name]:.3f}" for name in ("mean_s", "p50_s", "p95_s", "p99_s")),
        f"{row['images_per_gpu_minute']:.2f}",
        "–" if memory is None else f"{max(memory):.1f}",
        "–" if not outside else f"{outside['share']:.1%}",
    ]
