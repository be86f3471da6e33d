"""When each part of one request ran, on the host and on each GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

SHORTEST_S = 10e-6  # on a GPU: two marks with no work between them are some microseconds apart


@dataclass(frozen=True)
class Span:
    """One part; in seconds of the machine's monotonic clock, the same for all its processes."""

    name: str
    track: str  # what it ran on: the lane's host thread, a GPU, another model
    start: float
    end: float


class Timeline:
    """Collects the spans of one request.

    Work that is enqueued on a GPU is timed there, between two events, and told in the host's time by an event that the
    host has waited for: that, once a GPU, is all the waiting that it adds.
    """

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._enqueued: list[tuple[str, torch.device, torch.cuda.Event, torch.cuda.Event]] = []
        self._anchors: dict[torch.device, tuple[torch.cuda.Event, float]] = {}

    def add(self, name: str, track: str, start: float, end: float) -> None:
        """Note what was timed elsewhere, by `time.perf_counter` or `time.monotonic` of any process here."""
        self._spans.append(Span(name, track, float(start), float(end)))

    @contextmanager
    def on(self, name: str, device: torch.device) -> Iterator[None]:
        """Time what the block does on a device: enqueues on its current stream, or computes itself on the CPU."""
        if device.type != "cuda":
            start = time.perf_counter()
            yield
            self.add(name, str(device), start, time.perf_counter())
            return
        if device not in self._anchors:
            anchor = self._mark(device)
            anchor.synchronize()
            self._anchors[device] = anchor, time.perf_counter()
        begin = self._mark(device)
        yield
        self._enqueued.append((name, device, begin, self._mark(device)))

    def report(self) -> list[dict[str, Any]]:
        """All spans by their start, fit for JSON; waits for what is enqueued."""
        for name, device, begin, end in self._enqueued:
            end.synchronize()
            anchor, seconds = self._anchors[device]
            start = seconds + anchor.elapsed_time(begin) / 1000
            length = begin.elapsed_time(end) / 1000
            if length > SHORTEST_S:
                self.add(name, str(device), start, start + length)
        self._enqueued = []
        return [vars(span).copy() for span in sorted(self._spans, key=lambda span: span.start)]

    def _mark(self, device: torch.device) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event
