"""What one LoRA adds to a request: loading beside the first steps, patching between two, restoring."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from benchmarks.loras.unet_lane import BOUND, TIMEOUT_S, UNetLane

HOST_CALLS, HOST_SLEEP_S = 40, 0.005

Tell = Callable[[str], None]


def measure_latency(lane: UNetLane, repeats: int, tell: Tell = lambda text: None) -> dict[str, Any]:
    """Median milliseconds of a request without a LoRA, with one in no cache but the kernel's, and in none at all.

    The first request with a LoRA, which copies the pristine weights, is told apart. Each with a LoRA finds another one
    in the weights, so its time has the restoring too; each file is new to the loader, so its header is checked in that
    time. `disk_ms` is what the disk alone needs for the file, read from one end to the other.
    """
    names = itertools.cycle(lane.names)
    tell("warming up")
    lane.run(None)
    first = lane.run(next(names))
    plain, warm, cold, disk = [], [], [], []
    for number in range(repeats):
        tell(f"request {number + 1} of {repeats}")
        lane.run(next(names))
        lane.renew_files()
        warm.append(lane.run(next(names)))
        lane.run(next(names))
        lane.renew_files()
        lane.drop_from_page_cache()
        cold.append(lane.run(next(names)))
        lane.run(None)  # so that the next one has nothing to restore
        plain.append(lane.run(None)["ms"])
        lane.drop_from_page_cache()
        disk.append(time_disk(lane))
        for path in lane.folder.iterdir():
            path.read_bytes()
    base = statistics.median(plain)
    return {
        "subject": lane.subject,
        "lora_mb": round(lane.lora_bytes / 1e6, 1),
        "bound": BOUND,
        "plain_ms": round(base, 2),
        "first_with_a_lora_ms": round(first["ms"], 2),
        "disk_ms": round(statistics.median(disk), 2),
        "warm": _summarise(warm, base),
        "cold": _summarise(cold, base),
    }


def measure_steps(lane: UNetLane, repeats: int, tell: Tell = lambda text: None) -> dict[str, Any]:
    """Median milliseconds of a step of an undisturbed request, and of one while LoRAs load all the time."""
    idle, loading, loads = [], [], 0
    lane.run(None)
    for number in range(repeats):
        tell(f"request {number + 1} of {repeats}, undisturbed and beside loads")
        idle.append(lane.run(None)["ms"] / lane.steps)
        with loads_running(lane) as count:
            loading.append(lane.run(None)["ms"] / lane.steps)
        loads += count()
    ratio = statistics.median(loading) / statistics.median(idle)
    return {
        "idle_ms": round(statistics.median(idle), 3),
        "loading_ms": round(statistics.median(loading), 3),
        "slowed_percent": round(100 * (ratio - 1), 3),
        "loads": loads,
    }


def measure_host(lane: UNetLane, times: int, tell: Tell = lambda text: None) -> dict[str, Any]:
    """Milliseconds that a thread needs for a step's enqueuing, alone and while LoRAs load all the time.

    It makes as many small calls of torch, after each of which it has to get hold of Python's interpreter again, and
    then sleeps as one that waits for a GPU. The median, the 99th percentile and the longest of `times`.
    """
    figures: dict[str, Any] = {"calls": HOST_CALLS, "times": times}
    for name, disturbed in (("idle", False), ("loading", True)):
        tell(f"the host's part of a step, {name}")
        with loads_running(lane) if disturbed else nullcontext():
            spent = sorted(_time_host() for _ in range(times))
        figures[name] = {
            "p50_ms": round(statistics.median(spent), 3),
            "p99_ms": round(spent[int(0.99 * times)], 3),
            "max_ms": round(spent[-1], 3),
        }
    return figures


def _time_host() -> float:
    value = torch.zeros(())
    time.sleep(HOST_SLEEP_S)
    start = time.perf_counter()
    for _ in range(HOST_CALLS):
        value.add_(1)
    return 1e3 * (time.perf_counter() - start)


@contextmanager
def loads_running(lane: UNetLane) -> Iterator[Callable[[], int]]:
    """Within the block one LoRA after the other is loaded and prepared, and never patched in; gives how many were."""
    stop, loaded = threading.Event(), itertools.count()
    begun = threading.Semaphore(0)

    def load() -> None:
        for name in itertools.cycle(lane.names):
            if stop.is_set():
                return
            pending = lane.loader.begin([lane.loader.inspect(name).file], [0.8], lane.patcher.prepare)
            begun.release()
            pending.wait(TIMEOUT_S)
            next(loaded)

    thread = threading.Thread(target=load)
    thread.start()
    begun.acquire()
    try:
        yield lambda: next(loaded)
    finally:
        stop.set()
        thread.join()


def time_disk(lane: UNetLane) -> float:
    """Milliseconds to read a file that is in no cache, by one read after the other."""
    buffer = bytearray(8 * 2**20)
    start = time.perf_counter()
    with (lane.folder / f"{lane.names[0]}.safetensors").open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return 1e3 * (time.perf_counter() - start)


def _summarise(runs: list[dict[str, Any]], plain: float) -> dict[str, Any]:
    ms = statistics.median(run["ms"] for run in runs)
    uses = [run["loras"][0] for run in runs]
    return {
        "ms": round(ms, 2),
        "added_percent": round(100 * (ms / plain - 1), 3),
        "step": sorted(use["step"] for use in uses),
        "load_ms": round(1e3 * statistics.median(use["load_seconds"] for use in uses), 2),
    }
