"""What the grid promises, judged at 50 steps on SDXL."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bars import Bar, divide
from benchmarks.grid.rows import Row
from benchmarks.serving.systems import BEST, OURS, STOCK, name_layout

STEPS = 50  # of the published figures
TAIL_REQUESTS = 10  # of fewer, a row says nothing of its tail


def judge(rows: Sequence[Row]) -> dict[str, Bar]:
    """The bars by their short names; where a system has several rows, by the best of them."""

    def find(system: str, add_ons: str, gpus: int | None = None) -> list[Row]:
        key = (system, add_ons, STEPS)
        mine = [row for row in rows if (row["system"], row["add_ons"], row["steps"]) == key and "mean_s" in row]
        return [row for row in mine if gpus in (None, row["gpus"])]

    def fastest(system: str, add_ons: str, gpus: int | None = None) -> Row | None:
        return min(find(system, add_ons, gpus), key=lambda row: row["mean_s"], default=None)

    def speed_up(than: str, add_ons: str, bar: float, meaning: str, gpus: int | None = None) -> Bar:
        slow, fast = fastest(than, add_ons), fastest(OURS, add_ons, gpus)
        figure = divide(slow["mean_s"], fast["mean_s"]) if slow and fast else None
        return Bar(figure, bar, meaning + _on(fast), at_least=True)

    def most_per_gpu(system: str, add_ons: str) -> Row | None:
        return max(find(system, add_ons), key=lambda row: row["images_per_gpu_minute"], default=None)

    ours = [row for row in rows if row["system"] == OURS and row["steps"] == STEPS and "mean_s" in row]
    tails = [
        divide(row["p99_s"], row["p50_s"])
        for row in ours
        if not row["add_ons"].endswith("/0") and row["requests"] >= TAIL_REQUESTS
    ]
    outside = [row["outside"]["share"] for row in ours if row.get("outside")]
    own, their = most_per_gpu(OURS, "1/1"), most_per_gpu(STOCK, "1/1")
    per_gpu = divide(own["images_per_gpu_minute"], their["images_per_gpu_minute"]) if own and their else None
    return {
        "speed_up_1/1_stock": speed_up(STOCK, "1/1", 5.0, "1/1: stock diffusers' mean / ours"),
        "speed_up_1/1_best": speed_up(BEST, "1/1", 1.6, "1/1: the mean of diffusers at its best / ours"),
        "speed_up_0/0_stock": speed_up(STOCK, "0/0", 1.9, "0/0: stock diffusers' mean / ours", gpus=1),
        "images_per_gpu_minute_1/1_stock": Bar(
            per_gpu, 2.5, "1/1, images per GPU-minute: ours / stock diffusers" + _on(own), at_least=True
        ),
        "tail": Bar(
            max((tail for tail in tails if tail is not None), default=None),
            1.15,
            "p99 / p50, unloaded, uncached LoRAs, the worst row: ours",
        ),
        "outside_networks": Bar(
            max(outside, default=None), 0.03, "share of a request in which no network runs, the worst row: ours"
        ),
    }


def _on(row: Row | None) -> str:
    """The GPUs that a row of ours took; the others take one."""
    return f", ours on {name_layout(row['gpus'])}" if row else ""
