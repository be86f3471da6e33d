"""Where a request's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from swiftdiffusion.denoising.timeline import Timeline

HOST = "lane"  # the track of the thread that draws


class Stopwatch:
    """Adds up seconds by stage, as the host sees them (a GPU's work may still be running).

    With a timeline it notes too when each stage ran, here and on its device.
    """

    def __init__(self, timeline: Timeline | None = None) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._timeline = timeline

    @contextmanager
    def __call__(self, stage: str, device: torch.device | None = None) -> Iterator[None]:
        """Time the block under `stage`, also when it raises; `device` is where it enqueues work, if it does."""
        timeline = self._timeline
        start = time.perf_counter()
        try:
            with nullcontext() if timeline is None or device is None else timeline.on(stage, device):
                yield
        finally:
            end = time.perf_counter()
            self._seconds[stage] = self._seconds.get(stage, 0.0) + end - start
            if timeline is not None:
                timeline.add(stage, HOST, start, end)

    def note(self, part: str, track: str, start: float, end: float) -> None:
        """Note when something ran elsewhere; it counts for no stage, and is lost without a timeline."""
        if self._timeline is not None:
            self._timeline.add(part, track, start, end)

    @property
    def total(self) -> float:
        """Seconds since this stopwatch was made."""
        return time.perf_counter() - self._start

    def report(self) -> dict[str, float]:
        """Seconds of each stage, and ``total``; what no stage covers is the difference."""
        return {stage: round(seconds, 6) for stage, seconds in (*self._seconds.items(), ("total", self.total))}

    def report_spans(self) -> list[dict[str, Any]] | None:
        """The timeline's spans, where there is one."""
        return None if self._timeline is None else self._timeline.report()
