"""The bars that LoRAs are held to, and the results for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from benchmarks.bars import Bar, format_bars
from benchmarks.lines import draw_lines
from benchmarks.loras.failures import FAILURES
from benchmarks.loras.quality_table import count_lost_points, tabulate
from benchmarks.loras.rows import Parts
from benchmarks.table import format_table

DEFAULT_BOUND = 5  # of `swiftdiffusion`'s parameter lora_bound


def judge_bars(parts: Parts) -> dict[str, Bar]:
    """All bars; those of rows that were not measured have no figure."""
    patch = _find(parts, "patch", "one")
    request, steps = _find(parts, "latency", "request"), _find(parts, "latency", "steps")
    history, both = _find(parts, "exact", "history"), _find(parts, "exact", "set_adapters")
    failures = parts.get("failures", {})
    faults = [name for name, row in failures.items() if not (row["clear"] and row["unharmed"])]
    is_sdxl = request.get("subject") == "sdxl"  # the bars are SDXL's
    bars = {
        "history_leaves_no_trace": Bar(
            _count(history.get("different")),
            0,
            "pictures with A, B, A+B, none in a row that are not bit-equal to a fresh server's",
        ),
        "two_loras_against_set_adapters": Bar(
            both.get("max_difference"),
            1,
            "of 255: largest difference of a picture with two LoRAs from diffusers'",
        ),
        "patch_ms": Bar(patch.get("patch"), 3.5, "ms to patch SDXL's 560 attention projections, rank 64, fp16"),
        "restore_ms": Bar(patch.get("restore"), 2.5, "ms to put the same weights back"),
    }
    for way, meaning in (("warm", "in the kernel's page cache"), ("cold", "on the disk alone")):
        figure = request[way]["added_percent"] if is_sdxl else None
        bars[f"added_percent_{way}"] = Bar(figure, 3.0, f"% that an uncached 186 MB LoRA adds to 30 steps, {meaning}")
    bars["steps_slowed_percent"] = Bar(
        steps.get("slowed_percent") if is_sdxl else None,
        3.0,
        "% by which a step is longer while LoRAs load all the time",
    )
    lost = count_lost_points(parts["quality"], DEFAULT_BOUND) if parts.get("quality") else None
    bars["judge_points_lost"] = Bar(lost, 1.0, f"points of the judge lost at the default bound, {DEFAULT_BOUND}")
    for service in ("A", "B"):
        growth = _find(parts, "trace", service).get("memory_growth_mib")
        bars[f"memory_growth_mib_{service}"] = Bar(
            growth, 32.0, f"MiB that the process grew by after a fifth of the trace of service {service}"
        )
    bars["failures"] = Bar(
        len(faults) if set(FAILURES) <= failures.keys() else None,
        0,
        f"of {len(FAILURES)} kinds of broken files and stores: those without a clear error, or that harm the lane",
    )
    return bars


def draw_quality(quality: Mapping[str, Any]) -> Image.Image:
    """Similarity by bound, a line for each LoRA, and the judge's mean where all were measured."""
    table = tabulate(quality)
    mean = table["mean"]
    series = {
        name: [(float(bound), row["ssim"]) for bound, row in rows.items()]
        for name, rows in table.items()
        if name != "mean"
    }
    if mean:
        series["judge, mean"] = [(float(bound), row["styled"] / 100) for bound, row in mean.items()]
    low = min(value for points in series.values() for _, value in points)
    title = "SSIM to the LoRA from the start, by the step it came at"
    return draw_lines(title, "bound, of 30 steps", series, (max(0.0, round(low - 0.06, 1)), 1.0), mark=DEFAULT_BOUND)


def describe_results(parts: Parts, bars: Mapping[str, Bar]) -> str:
    """Tables of what was measured and of the bars."""
    texts = []
    if patch := _find(parts, "patch", "one"):
        rows = [[name, f"{value:.4g}"] for name, value in patch.items() if isinstance(value, float)]
        texts.append(format_table(["patch", "ms"], rows))
    if request := _find(parts, "latency", "request"):
        rows = [["without", f"{request['plain_ms']:.1f}", "", ""]]
        rows += [
            [way, *(f"{request[way][figure]:.2f}" for figure in ("ms", "added_percent", "load_ms"))]
            for way in ("warm", "cold")
        ]
        rows.append(["(the disk alone)", "", "", f"{request['disk_ms']:.2f}"])
        texts.append(format_table([f"request of {request['subject']}", "ms", "added, %", "load, ms"], rows))
    if steps := _find(parts, "latency", "steps"):
        rows = [["undisturbed", f"{steps['idle_ms']:.3f}"], ["while LoRAs load", f"{steps['loading_ms']:.3f}"]]
        texts.append(format_table(["step", "ms"], rows))
    if host := _find(parts, "latency", "host"):
        rows = [[name, *(f"{figure:.3f}" for figure in host[name].values())] for name in ("idle", "loading")]
        texts.append(format_table(["the host's part of a step", "p50, ms", "p99, ms", "longest, ms"], rows))
    if parts.get("quality"):
        table = tabulate(parts["quality"])
        bounds = sorted({bound for rows in table.values() for bound in rows})
        lines = [[str(bound), *(_tell_quality(rows.get(bound)) for rows in table.values())] for bound in bounds]
        texts.append(format_table(["bound", *(f"{name}: styled, % / SSIM" for name in table)], lines))
    if parts.get("trace"):
        figures = [name for name in next(iter(parts["trace"].values())) if name != "service"]
        rows = [[name, *(f"{trace[name]:g}" for trace in parts["trace"].values())] for name in figures]
        texts.append(format_table(["trace", *parts["trace"]], rows))
    if failures := parts.get("failures"):
        rows = [
            [name, row["error"], f"{row['seconds']:.2f}", *(_tell(row[what]) for what in ("clear", "unharmed"))]
            for name, row in failures.items()
        ]
        texts.append(format_table(["failure", "error", "s", "clear", "unharmed"], rows))
    texts.append(format_bars(bars))
    return "\n\n".join(texts)


def _find(parts: Parts, part: str, name: str) -> Mapping[str, Any]:
    return parts.get(part, {}).get(name, {})


def _count(items: list[str] | None) -> int | None:
    return None if items is None else len(items)


def _tell(holds: bool) -> str:
    return "yes" if holds else "no"


def _tell_quality(row: Mapping[str, float] | None) -> str:
    return "-" if row is None else f"{row['styled']:.1f} / {row['ssim']:.3f}"
