"""How much of a request is spent outside the networks: Triton, calls between models, codecs, Python, waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from benchmarks.serving.client import Reply, ask_in_turn
from benchmarks.serving.systems import MODELS, OURS, Request
from launch.problems import LaunchError
from launch.server import Server
from swiftdiffusion.denoising.stopwatch import HOST, TRACING

# Spans of what the request is for. "loras" is the patch. Those of the other models are whole calls as these see them:
# "text_encoder" with its tokenizers, "vae_decoder" with the pixels' way to the host.
NETWORKS = ("text_encoder", "unet_encoder", "unet_decoder", "scheduler", "loras", "controlnet_prepare", "controlnet",
            "vae_decoder")  # fmt: skip
ARRIVING, BETWEEN, ANSWERING = "arriving", "between stages", "answering"
"""Idle time that no stage of the lane covers: before its first one (client, Triton, checking the request and decoding
its reference images), between them, and after its last one (encoding the picture, Triton, client)."""

Spans = Sequence[tuple[float, float]]


def measure_outside(server: Server, requests: list[Request]) -> dict[str, Any]:
    """Ask for the spans of some requests, and average.

    Returns:
        `share` of the client's time in which no network ran anywhere, `seconds` of it, and these by the stage of the
        lane that they are in (`parts`); without what making the spans took. Raises LaunchError where a request fails.
    """
    replies = ask_in_turn(server.grpc_url, MODELS[OURS], [{**request, "trace": [True]} for request in requests])
    for reply in replies:
        if reply.failure:
            raise LaunchError(f"a traced request failed: {reply.failure}")
    idle = [measure_idle(reply) for reply in replies]
    outside = [sum(parts.values()) for parts in idle]
    shares = [
        seconds / (reply.seconds - measure_tracing(reply)) for seconds, reply in zip(outside, replies, strict=True)
    ]
    names = sorted({name for parts in idle for name in parts}, key=lambda name: -sum(parts[name] for parts in idle))
    return {
        "share": round(fmean(shares), 4),
        "seconds": round(fmean(outside), 5),
        "parts": {name: round(fmean(parts[name] for parts in idle), 5) for name in names},
        "requests": len(replies),
    }


def measure_idle(reply: Reply) -> Counter[str]:
    """Seconds of a traced request in which no network ran and no spans were made, by the lane's stage."""
    spans = reply.info["spans"]
    stages = [
        (span["start"], span["end"], span["name"])
        for span in spans
        if span["track"] == HOST and span["name"] != TRACING
    ]
    first = min((start for start, _, _ in stages), default=reply.received)
    last = max((end for _, end, _ in stages), default=reply.received)
    idle: Counter[str] = Counter()
    for start, end in find_gaps(find_busy(spans), reply.sent, reply.received):
        inside = {edge for stage in stages for edge in stage[:2] if start < edge < end}
        for begin, stop in pairwise(sorted({start, end, *inside})):
            around = [stage for stage in stages if stage[0] <= begin and stop <= stage[1]]
            if around:
                name = min(around, key=lambda stage: stage[1] - stage[0])[2]
            else:
                name = ARRIVING if stop <= first else ANSWERING if begin >= last else BETWEEN
            idle[name] += stop - begin
    return idle


def find_busy(spans: Iterable[Mapping[str, Any]]) -> Spans:
    """Start and end of each span in which a network ran, where it ran, or in which the spans were made."""
    return [
        (span["start"], span["end"])
        for span in spans
        if (span["name"] in NETWORKS and span["track"] != HOST) or span["name"] == TRACING
    ]


def measure_tracing(reply: Reply) -> float:
    """Seconds that making the spans took, which only a traced request does."""
    return sum(span["end"] - span["start"] for span in reply.info["spans"] if span["name"] == TRACING)


def find_gaps(spans: Spans, start: float, end: float) -> Spans:
    """What no span covers between `start` and `end`."""
    gaps, reached = [], start
    for first, last in sorted(spans):
        if reached < min(first, end):
            gaps.append((reached, min(first, end)))
        reached = max(reached, last)
    return [*gaps, (reached, end)] if reached < end else gaps
