"""The bars that LoRAs are held to, and the results for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from benchmarks.bars import Bar
from benchmarks.lines import draw_lines
from benchmarks.loras.quality import count_lost_points
from benchmarks.table import format_table

DEFAULT_BOUND = 5  # of `swiftdiffusion`'s parameter lora_bound


def judge_bars(report: Mapping[str, Any]) -> dict[str, Bar]:
    """The bars of the parts that were measured."""
    bars: dict[str, Bar] = {}
    if "patch" in report:
        patch = report["patch"]["one"]
        bars["patch_ms"] = Bar(patch["patch"], 3.5, "ms to patch SDXL's 560 attention projections, rank 64, fp16")
        bars["restore_ms"] = Bar(patch["restore"], 2.5, "ms to put the same weights back")
    if "latency" in report:
        for way, meaning in (("warm", "in the kernel's page cache"), ("cold", "on the disk alone")):
            figure = report["latency"][way]["added_percent"]
            bars[f"added_percent_{way}"] = Bar(
                figure, 3.0, f"% that an uncached 186 MB LoRA adds to 30 steps, {meaning}"
            )
    if "quality" in report:
        lost = count_lost_points(report["quality"], DEFAULT_BOUND)
        bars["judge_points_lost"] = Bar(lost, 1.0, f"points of the judge lost at the default bound, {DEFAULT_BOUND}")
    for service, trace in report.get("trace", {}).items():
        growth = trace["memory_growth_mib"]
        bars[f"memory_growth_mib_{service}"] = Bar(
            growth, 32.0, "MiB that the process grew by after a fifth of the trace"
        )
    return bars


def draw_quality(quality: Mapping[str, Any]) -> Image.Image:
    """Similarity by bound, a line for each LoRA, and the judge's mean."""
    series = {
        name: [(float(bound), row["ssim"]) for bound, row in rows.items()] for name, rows in quality["loras"].items()
    }
    series["judge, mean"] = [(float(bound), row["styled"] / 100) for bound, row in quality["mean"].items()]
    low = min(value for points in series.values() for _, value in points)
    title = f"SSIM to the LoRA from the start, by the step it came at; {quality['prompts']} prompts each"
    return draw_lines(title, "bound, of 30 steps", series, (max(0.0, round(low - 0.06, 1)), 1.0), mark=DEFAULT_BOUND)


def describe_results(report: Mapping[str, Any]) -> str:
    """Tables of what was measured and of the bars."""
    texts = []
    if "patch" in report:
        rows = [[name, f"{value:.4g}"] for name, value in report["patch"]["one"].items() if isinstance(value, float)]
        texts.append(format_table(["patch", "ms"], rows))
    if "latency" in report:
        latency = report["latency"]
        rows = [["without", f"{latency['plain_ms']:.1f}", "", ""]]
        rows += [
            [way, *(f"{latency[way][figure]:.2f}" for figure in ("ms", "added_percent", "load_ms"))]
            for way in ("warm", "cold")
        ]
        texts.append(format_table(["request", "ms", "added, %", "load, ms"], rows))
    if "quality" in report:
        quality = report["quality"]
        names = [*quality["loras"], "mean"]
        tables = {**quality["loras"], "mean": quality["mean"]}
        rows = [
            [bound, *(f"{tables[name][bound]['styled']:.1f} / {tables[name][bound]['ssim']:.3f}" for name in names)]
            for bound in quality["mean"]
        ]
        texts.append(format_table(["bound", *(f"{name}: styled, % / SSIM" for name in names)], rows))
    if "trace" in report:
        figures = [name for name in next(iter(report["trace"].values())) if name != "service"]
        rows = [[name, *(f"{trace[name]:g}" for trace in report["trace"].values())] for name in figures]
        texts.append(format_table(["trace", *report["trace"]], rows))
    rows = [
        [name, "-" if bar["figure"] is None else f"{bar['figure']:g}", f"{bar['bar']:g}", _tell(bar["met"])]
        for name, bar in report.get("bars", {}).items()
    ]
    texts.append(format_table(["bar", "figure", "at most", "met"], rows))
    return "\n\n".join(texts)


def _tell(met: bool | None) -> str:
    return {None: "not measured", True: "yes", False: "no"}[met]
