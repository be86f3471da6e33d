"""Where a request's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from swiftdiffusion.denoising.timeline import Timeline

HOST = "lane"  # the track of the thread that draws
REQUEST = "request"  # the span of all that this thread does for it


class _Lap:
    """One stage's block; a class, since several a step as generators would be a tenth of a step's Python."""

    __slots__ = ("_seconds", "_stage", "_start")

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        passed = time.perf_counter() - self._start
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + passed


class Stopwatch:
    """Adds up seconds by stage, as the host sees them (a GPU's work may still be running).

    With a timeline it notes too when each stage ran, here and on its device.
    """

    def __init__(self, timeline: Timeline | None = None) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._timeline = timeline

    def __call__(self, stage: str, device: torch.device | None = None) -> AbstractContextManager[None]:
        """Time the block under `stage`, also when it raises; `device` is where it enqueues work, if it does."""
        return _Lap(self._seconds, stage) if self._timeline is None else self._trace(self._timeline, stage, device)

    def note(self, part: str, track: str, start: float, end: float) -> None:
        """Note when something ran elsewhere; it counts for no stage, and is lost without a timeline."""
        if self._timeline is not None:
            self._timeline.add(part, track, start, end)

    @contextmanager
    def _trace(self, timeline: Timeline, stage: str, device: torch.device | None) -> Iterator[None]:
        start = time.perf_counter()
        try:
            with _Lap(self._seconds, stage), nullcontext() if device is None else timeline.on(stage, device):
                yield
        finally:
            timeline.add(stage, HOST, start, time.perf_counter())

    @property
    def total(self) -> float:
        """Seconds since this stopwatch was made."""
        return time.perf_counter() - self._start

    def report(self) -> dict[str, float]:
        """Seconds of each stage, and ``total``; what no stage covers is the difference."""
        return {stage: round(seconds, 6) for stage, seconds in (*self._seconds.items(), ("total", self.total))}

    def report_spans(self) -> list[dict[str, Any]] | None:
        """The timeline's spans, where there is one, with that of the whole up to now, before they are made."""
        if self._timeline is None:
            return None
        self._timeline.add(REQUEST, HOST, self._start, time.perf_counter())
        return self._timeline.report()
