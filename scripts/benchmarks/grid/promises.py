"""What the grid promises, judged at 50 steps on SDXL."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bars import Bar, divide
from benchmarks.grid.rows import Row
from benchmarks.serving.systems import BEST, OURS, STOCK

STEPS = 50  # of the published figures


def judge(rows: Sequence[Row], steps: int = STEPS) -> dict[str, Bar]:
    """The bars by their short names; a ratio is theirs over ours, so more is better."""

    def figure(system: str, add_ons: str, name: str) -> float | None:
        for row in rows:
            if (row["system"], row["add_ons"], row["steps"]) == (system, add_ons, steps):
                return row.get(name)
        return None

    def speed_up(than: str, add_ons: str) -> float | None:
        return divide(figure(than, add_ons, "mean_s"), figure(OURS, add_ons, "mean_s"))

    ours = [row for row in rows if row["system"] == OURS and row["steps"] == steps and "mean_s" in row]
    tails = [divide(row["p99_s"], row["p50_s"]) for row in ours if not row["add_ons"].endswith("/0")]
    outside = [row["outside"]["share"] for row in ours if row.get("outside")]
    per_gpu = divide(figure(OURS, "1/1", "images_per_gpu_minute"), figure(STOCK, "1/1", "images_per_gpu_minute"))
    return {
        "speed_up_1/1_stock": Bar(speed_up(STOCK, "1/1"), 5.0, "1/1: stock diffusers' mean / ours", at_least=True),
        "speed_up_1/1_best": Bar(
            speed_up(BEST, "1/1"), 1.6, "1/1: the mean of diffusers at its best / ours", at_least=True
        ),
        "speed_up_0/0_stock": Bar(
            speed_up(STOCK, "0/0"), 1.9, "0/0 on one GPU: stock diffusers' mean / ours", at_least=True
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
