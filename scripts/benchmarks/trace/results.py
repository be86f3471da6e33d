"""The trace's figures for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from benchmarks.bars import Bar, divide, format_bars
from benchmarks.lines import draw_lines
from benchmarks.serving.systems import BEST, LABELS, OURS, STOCK, name_layout, name_place
from benchmarks.table import format_table
from benchmarks.trace.rows import UNLOADED, Row, find_throughput

HEADER = ("service, system, models on", "load", "asked/min", "images/min", "p50, s", "p95", "p99", "queued, s",
          "in weights", "in cache", "failed")  # fmt: skip


def judge(rows: Sequence[Row]) -> dict[str, Bar]:
    """What is promised of a loaded server: our lower limit over their upper one, the least that any machine shows."""
    bars = {}
    machines = dict.fromkeys(row["machine"] for row in rows)
    for service, layout in sorted({(row["service"], row["layout"]) for row in rows if row["system"] == OURS}):
        for than in (STOCK, BEST):
            compared = [_compare(rows, service, layout, than, machine) for machine in machines]
            bars[f"throughput_{service}_{than}_{layout.replace(' ', '_')}"] = Bar(
                min((figure for figure in compared if figure is not None), default=None),
                1.0,
                f"service {service}, images a minute at p95 ≤ 2 × unloaded: "
                f"at least, ours on {layout} / at most, {LABELS[than]}",
                at_least=True,
            )
    return bars


def format_rows(rows: Sequence[Row], bars: Mapping[str, Bar]) -> str:
    """A line for each row, and what each system can carry."""
    systems = list(LABELS)
    ordered = sorted(
        rows,
        key=lambda row: (row["service"], systems.index(row["system"]), row["machine"], row["layout"], row["load"]),
    )
    failures = [f"{row['service']}, {row['system']}, {row['load']}: {row['failed']}" for row in rows if "failed" in row]
    carried = [
        [
            name,
            *(
                _show(limit, ".2f")
                for limit in find_throughput(rows, row["system"], row["service"], row["layout"], row["machine"])
            ),
        ]
        for name, row in {_name(row, rows): row for row in ordered}.items()
    ]
    tables = [format_table(HEADER, [_format(row, _name(row, rows)) for row in ordered])]
    header = ["service, system, models on", "images/min at p95 ≤ 2 × unloaded, at least", "at most"]
    tables.append(format_table(header, carried))
    return "\n\n".join([*tables, *failures, format_bars(bars)])


def draw_rows(rows: Sequence[Row], checkpoint: str) -> Image.Image | None:
    """p95 by what was answered in a minute, a line for each system and service; None where there is no rate."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(rows, key=lambda row: row.get("images_per_minute", 0.0)):
        if row["load"] != UNLOADED and row.get("p95_s"):
            name = f"{row['system']}, {row['service']}, {name_place(row, rows)}"
            series.setdefault(name, []).append((row["images_per_minute"], row["p95_s"]))
    if not series:
        return None
    seconds = [p95 for points in series.values() for _, p95 in points]
    title = f"{checkpoint}: p95 in seconds, by load; lower and further right is better"
    return draw_lines(title, "images a minute", series, (min(seconds), max(seconds)), logarithmic=True)


def _compare(rows: Sequence[Row], service: str, layout: str, than: str, machine: str) -> float | None:
    at_least, _ = find_throughput(rows, OURS, service, layout, machine)
    theirs = [find_throughput(rows, than, service, name_layout(gpus), machine) for gpus in (0, 1)]
    return divide(at_least, next((at_most for _, at_most in theirs if at_most is not None), None))


def _format(row: Row, name: str) -> list[str]:
    first = [
        name,
        "one by one" if row["load"] == UNLOADED else str(row["load"]),
    ]
    if "failed" in row:
        return [*first, "failed", *[""] * (len(HEADER) - 3)]
    return [
        *first,
        *(_show(row[name], ".1f") for name in ("rate_per_minute", "images_per_minute")),
        *(_show(row[name], ".2f") for name in ("p50_s", "p95_s", "p99_s", "queue_s")),
        *(_show(row[name], ".0%") for name in ("in_the_weights_share", "host_cache_share")),
        str(sum(row["failures"].values())),
    ]


def _name(row: Row, rows: Sequence[Row]) -> str:
    return f"{row['service']}, {LABELS[row['system']]}, {name_place(row, rows)}"


def _show(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)
