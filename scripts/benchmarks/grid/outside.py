"""How much of a request is spent outside the networks: Triton, calls between models, codecs, Python, waiting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.serving.client import Reply, ask_in_turn
from benchmarks.serving.systems import MODELS, OURS, Request
from launch.problems import LaunchError
from launch.server import Server
from swiftdiffusion.denoising.stopwatch import HOST

# spans of what the request is for; "loras" is the patch
NETWORKS = ("text_encoder", "unet_encoder", "unet_decoder", "scheduler", "loras", "controlnet", "vae_decoder")


def measure_outside(server: Server, requests: list[Request]) -> dict[str, Any]:
    """Ask for the spans of some requests, and average.

    Returns:
        `share` of the client's time in which no network ran anywhere, and `seconds` of it. Raises LaunchError where a
        request fails.
    """
    replies = ask_in_turn(server.grpc_url, MODELS[OURS], [{**request, "trace": [True]} for request in requests])
    for reply in replies:
        if reply.failure:
            raise LaunchError(f"a traced request failed: {reply.failure}")
    outside = [measure_idle(reply) for reply in replies]
    shares = [idle / reply.seconds for idle, reply in zip(outside, replies, strict=True)]
    return {"share": round(fmean(shares), 4), "seconds": round(fmean(outside), 5), "requests": len(replies)}


def measure_idle(reply: Reply) -> float:
    """Seconds of a traced request in which no network ran."""
    return reply.seconds - measure_union(find_busy(reply.info["spans"]), reply.sent, reply.received)


def find_busy(spans: Iterable[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Start and end of each span in which a network ran, where it ran."""
    return [(span["start"], span["end"]) for span in spans if span["name"] in NETWORKS and span["track"] != HOST]


def measure_union(spans: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """Seconds between `start` and `end` that at least one span covers."""
    covered, reached = 0.0, start
    for first, last in sorted(spans):
        first, last = max(first, reached), min(last, end)
        if last > first:
            covered += last - first
            reached = last
    return covered
