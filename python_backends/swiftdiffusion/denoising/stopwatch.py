"""Where a request's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up seconds by stage, as the host sees them (a GPU's work may still be running)."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block under `stage`, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start

    @property
    def total(self) -> float:
        """Seconds since this stopwatch was made."""
        return time.perf_counter() - self._start

    def report(self) -> dict[str, float]:
        """Seconds of each stage, and ``total``; what no stage covers is the difference."""
        return {stage: round(seconds, 6) for stage, seconds in (*self._seconds.items(), ("total", self.total))}
