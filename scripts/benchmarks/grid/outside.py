"""How much of a request is spent outside the networks: Triton, calls between models, codecs, Python, waiting.

What the lane does is looked at in requests that are traced, and what is before and after it in others: telling the
spans takes time, which those do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from benchmarks.serving.client import ask_in_turn
from benchmarks.serving.load import Answered
from benchmarks.serving.systems import MODELS, OURS, Request
from launch.problems import LaunchError
from swiftdiffusion.denoising.stopwatch import HOST, REQUEST

# Spans of what the request is for. "loras" is the patch. Those of the other models are whole calls as these see them:
# "text_encoder" with its tokenizers, "vae_decoder" with the way of pixels to the host, without that of a JPEG.
NETWORKS = ("text_encoder", "unet_encoder", "unet_decoder", "scheduler", "loras", "controlnet_prepare", "controlnet",
            "vae_decoder")  # fmt: skip
AROUND, BETWEEN = "around the lane", "between stages"
"""Time before and after the lane's own (client, Triton, checking the request, encoding the picture), and idle time of
the lane that no stage covers."""

Spans = Sequence[tuple[float, float]]


def measure_outside(grpc_url: str, requests: list[Request], answered: Sequence[Answered]) -> dict[str, Any]:
    """Ask for the spans of some requests, and average.

    Args:
        grpc_url: of our system's server.
        requests: to be traced.
        answered: others of the same kind, which were not.

    Returns:
        `share` of the client's time in which no network ran anywhere, `seconds` of it, these by the stage of the lane
        that they are in (`parts`), and how many were traced. Raises LaunchError where a request fails.
    """
    replies = ask_in_turn(grpc_url, MODELS[OURS], [{**request, "trace": [True]} for request in requests])
    for reply in replies:
        if reply.failure:
            raise LaunchError(f"a traced request failed: {reply.failure}")
    return summarise_outside([reply.info["spans"] for reply in replies], answered)


def summarise_outside(traced: Sequence[Sequence[Mapping[str, Any]]], answered: Sequence[Answered]) -> dict[str, Any]:
    """`measure_outside` of requests' spans."""
    idle = [measure_idle(spans) for spans in traced]
    names = {name for parts in idle for name in parts}
    parts = {name: fmean(parts[name] for parts in idle) for name in names}
    parts[AROUND] = fmean(one.seconds - one.info["seconds"]["total"] for one in answered)
    seconds = sum(parts.values())
    return {
        "share": round(seconds / fmean(one.seconds for one in answered), 4),
        "seconds": round(seconds, 5),
        "parts": {name: round(parts[name], 5) for name in sorted(parts, key=lambda name: -parts[name])},
        "requests": len(traced),
    }


def measure_idle(spans: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Seconds of a traced request's time in the lane in which no network ran, by the lane's stage."""
    on_host = [(span["start"], span["end"], span["name"]) for span in spans if span["track"] == HOST]
    [(first, last)] = [(start, end) for start, end, name in on_host if name == REQUEST]
    stages = [stage for stage in on_host if stage[2] != REQUEST]
    idle: Counter[str] = Counter()
    for start, end in find_gaps(find_busy(spans), first, last):
        inside = {edge for stage in stages for edge in stage[:2] if start < edge < end}
        for begin, stop in pairwise(sorted({start, end, *inside})):
            around = [stage for stage in stages if stage[0] <= begin and stop <= stage[1]]
            name = min(around, key=lambda stage: stage[1] - stage[0])[2] if around else BETWEEN
            idle[name] += stop - begin
    return idle


def find_busy(spans: Iterable[Mapping[str, Any]]) -> Spans:
    """Start and end of each span in which a network ran, where it ran."""
    return [(span["start"], span["end"]) for span in spans if span["name"] in NETWORKS and span["track"] != HOST]


def find_gaps(spans: Spans, start: float, end: float) -> Spans:
    """What no span covers between `start` and `end`."""
    gaps, reached = [], start
    for first, last in sorted(spans):
        if reached < min(first, end):
            gaps.append((reached, min(first, end)))
        reached = max(reached, last)
    return [*gaps, (reached, end)] if reached < end else gaps
