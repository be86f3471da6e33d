"""A request's spans as trace events, which chrome://tracing and https://ui.perfetto.dev draw.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (complete events, metadata).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.serving.client import Reply

SHOWN_S = 20e-6  # shorter host stages, such as a look at LoRAs that are not there yet, would only be clutter


def make_trace(reply: Reply, title: str) -> dict[str, Any]:
    """A trace of one process with a thread for each track, and the client's view of the request above them.

    Times are in microseconds from the sending.
    """
    spans: list[Mapping[str, Any]] = [
        {"name": title, "track": "client", "start": reply.sent, "end": reply.received},
        *(span for span in reply.info["spans"] if span["end"] - span["start"] >= SHOWN_S),
    ]
    tracks = {track: number for number, track in enumerate(dict.fromkeys(span["track"] for span in spans), start=1)}
    names = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": track}}
        for track, number in tracks.items()
    ]
    order = [
        {"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": number, "args": {"sort_index": number}}
        for number in tracks.values()
    ]
    events = [
        {
            "ph": "X",
            "name": span["name"],
            "pid": 1,
            "tid": tracks[span["track"]],
            "ts": round(1e6 * (span["start"] - reply.sent), 1),
            "dur": round(1e6 * (span["end"] - span["start"]), 1),
        }
        for span in spans
    ]
    return {"traceEvents": [*names, *order, *events], "displayTimeUnit": "ms"}
