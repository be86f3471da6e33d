"""A timeline as a picture: a row for each track, the whole request and then its beginning and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from benchmarks.pen import FAINT, GRID, INK, Pen, measure_text

WIDTH, LEFT, RIGHT, TOP, GAP = 1100, 150, 20, 74, 44
ROW, BAR = 20, 16
ZOOM = 0.12  # of the request, at either end
TICKS = 10
WHOLE = "#dde3ea"  # the client's view, and the lane's, which all the others are parts of
COLOURS = {
    "text_encoder": "#edae49",
    "fetch": "#e07a5f",
    "read and copy": "#f4a6b0",
    "loras": "#d1495b",
    "controlnet_attach": "#a9d4b8",
    "controlnet_prepare": "#8cc3a0",
    "controlnet": "#66a182",
    "controlnet_wait": "#cfe3d6",
    "unet_encoder": "#7a9cc6",
    "unet_decoder": "#3f6ea5",
    "scheduler": "#404040",
    "waiting": "#f0f0f0",
    "vae_decoder": "#6d597a",
    "preview": "#b79bc9",
}


@dataclass(frozen=True)
class _Span:
    name: str
    track: str
    start: float  # ms
    end: float


def draw_timeline(trace: Mapping[str, Any]) -> Image.Image:
    """Draw what `make_trace` made."""
    spans = _read(trace)
    tracks = list(dict.fromkeys(span.track for span in spans))
    end = max(span.end for span in spans)
    windows = [(0.0, end), (0.0, ZOOM * end), ((1 - ZOOM) * end, end)]
    panel = len(tracks) * ROW
    pen = Pen(LEFT + WIDTH + RIGHT, TOP + len(windows) * (panel + GAP))
    pen.write(20, 22, spans[0].name, INK, 16, "lm")
    x = 20.0
    for name in [name for name in COLOURS if any(span.name == name for span in spans)]:
        pen.fill(x, 42, 12, 12, COLOURS[name])
        pen.write(x + 17, 48, name, INK, 11, "lm")
        x += 17 + measure_text(name, 11) + 16
    for number, (low, high) in enumerate(windows):
        _draw_panel(pen, TOP + number * (panel + GAP), tracks, spans, low, high)
    return pen.picture


def _draw_panel(pen: Pen, top: float, tracks: Sequence[str], spans: Sequence[_Span], low: float, high: float) -> None:
    bottom = top + len(tracks) * ROW

    def place(ms: float) -> float:
        return LEFT + WIDTH * (min(max(ms, low), high) - low) / (high - low)

    for tick in range(TICKS + 1):
        ms = low + (high - low) * tick / TICKS
        pen.join([(place(ms), top), (place(ms), bottom)], GRID)
        pen.write(place(ms), bottom + 10, f"{ms:.0f} ms" if tick == TICKS else f"{ms:.0f}", FAINT, 10, "mm")
    for row, track in enumerate(tracks):
        pen.write(LEFT - 10, top + row * ROW + ROW / 2, track, INK, 11, "rm")
    for span in sorted(spans, key=lambda span: span.start - span.end):  # what is within others lies over them
        if span.end > low and span.start < high:
            left, right = place(span.start), place(span.end)
            y = top + tracks.index(span.track) * ROW + (ROW - BAR) / 2
            pen.fill(left, y, right - left, BAR, COLOURS.get(span.name, WHOLE))


def _read(trace: Mapping[str, Any]) -> list[_Span]:
    events = trace["traceEvents"]
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    return [
        _Span(event["name"], tracks[event["tid"]], event["ts"] / 1000, (event["ts"] + event["dur"]) / 1000)
        for event in events
        if event["ph"] == "X"
    ]
