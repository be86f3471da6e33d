"""What the grid promises, judged at 50 steps on SDXL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.bars import Bar, divide
from benchmarks.grid.rows import Row
from benchmarks.serving.systems import BEST, OURS, STOCK, name_layout

Rate = Callable[[Row], float]
STEPS = 50  # of the published figures
TAIL_REQUESTS = 10  # of fewer, a row says nothing of its tail


def judge(rows: Sequence[Row]) -> dict[str, Bar]:
    """The bars by their short names.

    On each machine the best row of a system counts; of several machines the least that any of them shows.
    """
    machines = dict.fromkeys(row["machine"] for row in rows)

    def find(system: str, add_ons: str, machine: str, gpus: int | None = None) -> list[Row]:
        wanted = {"system": system, "add_ons": add_ons, "steps": STEPS, "machine": machine}
        mine = [row for row in rows if wanted.items() <= row.items() and "mean_s" in row]
        return [row for row in mine if gpus in (None, row["gpus"])]

    def compare(than: str, add_ons: str, bar: float, meaning: str, rate: Rate, gpus: int | None = None) -> Bar:
        compared: list[tuple[float, str]] = []
        for machine in machines:
            theirs = max(find(than, add_ons, machine), key=rate, default=None)
            own = max(find(OURS, add_ons, machine, gpus), key=rate, default=None)
            if theirs and own:
                compared.append((rate(own) / rate(theirs), _on(own)))
        figure, place = min(compared) if compared else (None, "")
        return Bar(figure, bar, f"{add_ons}, {STEPS} steps, {meaning}{place}", at_least=True)

    ours = [row for row in rows if row["system"] == OURS and row["steps"] == STEPS and "mean_s" in row]
    tails = [
        divide(row["p99_s"], row["p50_s"])
        for row in ours
        if not row["add_ons"].endswith("/0") and row["requests"] >= TAIL_REQUESTS
    ]
    outside = [row["outside"]["share"] for row in ours if row.get("outside")]
    return {
        "speed_up_1/1_stock": compare(STOCK, "1/1", 5.0, "mean: stock diffusers / ours", _speed),
        "speed_up_1/1_best": compare(BEST, "1/1", 1.6, "mean: diffusers at its best / ours", _speed),
        "speed_up_0/0_stock": compare(STOCK, "0/0", 1.9, "mean: stock diffusers / ours", _speed, gpus=1),
        "images_per_gpu_minute_1/1_stock": compare(
            STOCK, "1/1", 2.5, "images per GPU-minute: ours / stock diffusers", _per_gpu
        ),
        "tail": Bar(
            max((tail for tail in tails if tail is not None), default=None),
            1.15,
            "p99 / p50, unloaded, uncached LoRAs, the worst row of "
            f"{STEPS} steps and at least {TAIL_REQUESTS} requests: ours",
        ),
        "outside_networks": Bar(
            max(outside, default=None),
            0.03,
            f"share of a request in which no network runs, the worst row of {STEPS} steps: ours",
        ),
    }


def _speed(row: Row) -> float:
    return 1 / row["mean_s"]


def _per_gpu(row: Row) -> float:
    return row["images_per_gpu_minute"]


def _on(row: Row) -> str:
    """The GPUs that a row of ours took; the others take one."""
    return f", ours on {name_layout(row['gpus'])}"
