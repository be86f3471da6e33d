"""Milliseconds of a call: as the GPU sees it, and of the host's work."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

import torch


def time_calls(call: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Milliseconds of each of `repeats` calls, one after the other with nothing waited for in between.

    On a GPU by CUDA events: what the host needs to launch a call counts only as far as the GPU waits for it, as in a
    denoising loop. On the CPU by the clock. Warming up is the caller's.
    """
    if device.type != "cuda":
        return [_clock(call) for _ in range(repeats)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize(device)
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) for start, end in pairwise(events)]


def time_host(call: Callable[[], Any], device: torch.device, repeats: int) -> list[float] | None:
    """Milliseconds for which each call keeps its thread busy, the GPU idle before it; None on the CPU.

    The thread's own time: a loop that sleeps until the GPU has caught up costs nothing meanwhile.
    """
    if device.type != "cuda":
        return None
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize(device)
        start = time.thread_time()
        call()
        times.append((time.thread_time() - start) * 1000)
    torch.cuda.synchronize(device)
    return times


def summarise(milliseconds: list[float]) -> dict[str, float]:
    """Median, and the first and last decile (the extremes of fewer than ten)."""
    deciles = quantiles(milliseconds, n=10) if len(milliseconds) >= 10 else [min(milliseconds), max(milliseconds)]
    return {
        "median_ms": round(median(milliseconds), 4),
        "p10_ms": round(deciles[0], 4),
        "p90_ms": round(deciles[-1], 4),
        "repeats": len(milliseconds),
    }


def _clock(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000
