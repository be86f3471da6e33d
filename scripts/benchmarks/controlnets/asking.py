"""Requests of the small checkpoint for the parts that are about processes and memory, not about time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.checkpoints import ServedCheckpoint, add_controlnets, make_request
from benchmarks.serving.client import Reply, ask_in_turn
from benchmarks.serving.systems import MODELS, OURS, Request
from launch.problems import LaunchError
from launch.server import Server

LANE = MODELS[OURS]
SEED = 7  # of all requests, so that their pictures can be compared


def compose(checkpoint: ServedCheckpoint, controlnets: Sequence[str], steps: int) -> Request:
    """A request with these ControlNets."""
    return {**make_request(checkpoint, SEED, steps, "raw"), **add_controlnets(checkpoint, list(controlnets))}


def ask_once(server: Server, request: Request) -> Reply:
    """Send it and wait for the answer, which may be a failure."""
    (reply,) = ask_in_turn(server.grpc_url, LANE, [request])
    return reply


def draw(server: Server, request: Request) -> tuple[Reply, NDArray[np.uint8]]:
    """Send it and wait for its picture; raises LaunchError where there is none."""
    reply = ask_once(server, request)
    if reply.failure or reply.pixels is None:
        raise LaunchError(reply.failure or "the answer has no picture")
    return reply, reply.pixels
