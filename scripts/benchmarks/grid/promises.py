"""What the grid promises, judged at 50 steps on SDXL."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bars import Bar, divide
from benchmarks.grid.rows import Row
from benchmarks.serving.systems import BEST, OURS, STOCK

STEPS = 50  # of the published figures


def judge(rows: Sequence[Row]) -> dict[str, Bar]:
    """The bars by their short names; where a system has several rows, by the best of them."""

    def find(system: str, add_ons: str, gpus: int | None = None) -> list[Row]:
        key = (system, add_ons, STEPS)
        mine = [row for row in rows if (row["system"], row["add_ons"], row["steps"]) == key and "mean_s" in row]
        return [row for row in mine if gpus in (None, row["gpus"])]

    def fastest(system: str, add_ons: str, gpus: int | None = None) -> float | None:
        return min((row["mean_s"] for row in find(system, add_ons, gpus)), default=None)

    def speed_up(than: str, add_ons: str, gpus: int | None = None) -> float | None:
        return divide(fastest(than, add_ons), fastest(OURS, add_ons, gpus))

    def most_per_gpu(system: str, add_ons: str) -> float | None:
        return max((row["images_per_gpu_minute"] for row in find(system, add_ons)), default=None)

    ours = [row for row in rows if row["system"] == OURS and row["steps"] == STEPS and "mean_s" in row]
    tails = [divide(row["p99_s"], row["p50_s"]) for row in ours if not row["add_ons"].endswith("/0")]
    outside = [row["outside"]["share"] for row in ours if row.get("outside")]
    per_gpu = divide(most_per_gpu(OURS, "1/1"), most_per_gpu(STOCK, "1/1"))
    return {
        "speed_up_1/1_stock": Bar(speed_up(STOCK, "1/1"), 5.0, "1/1: stock diffusers' mean / ours", at_least=True),
        "speed_up_1/1_best": Bar(
            speed_up(BEST, "1/1"), 1.6, "1/1: the mean of diffusers at its best / ours", at_least=True
        ),
        "speed_up_0/0_stock": Bar(
            speed_up(STOCK, "0/0", gpus=1), 1.9, "0/0 on one GPU: stock diffusers' mean / ours", at_least=True
        ),
        "images_per_gpu_minute_1/1_stock": Bar(
            per_gpu, 2.5, "1/1, images per GPU-minute: ours / stock diffusers", at_least=True
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
