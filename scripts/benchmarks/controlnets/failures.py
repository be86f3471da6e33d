"""A ControlNet's process is killed while it is at work for a request, again and again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.controlnets.asking import LANE, ask_once, compose, draw
from benchmarks.controlnets.processes import find_stubs
from benchmarks.controlnets.repository import choose_last, write_models
from benchmarks.controlnets.rows import FAILURES, describe_row, read_figure
from benchmarks.controlnets.usage import Usage, describe_growth, read_usage
from benchmarks.runs import GrowingReport
from benchmarks.serving.checkpoints import ServedCheckpoint
from benchmarks.serving.client import Reply, ask
from benchmarks.serving.deployment import serve_repository
from benchmarks.serving.systems import Request
from launch.problems import LaunchError
from launch.progress import Progress
from launch.server import Server
from swiftdiffusion.lane import LaneConfiguration

TIMEOUT_S = LaneConfiguration.controlnet_timeout_s
STEPS_ON_GPU, STEPS_ON_CPU = 100, 20  # long enough to be killed in
EARLY, LATE = 0.3, 0.7  # when the kill comes, as shares of what the request takes undisturbed
REPAIR_S, PAUSE_S = 120.0, 0.25
PREFACES = 3  # requests by which the time is known that one takes


@dataclass(frozen=True)
class Trial:
    """What came of one kill; times in seconds."""

    clean: bool  # UNAVAILABLE, with the ControlNet's name, in time
    error_s: float  # from the kill to the answer
    sentence: str
    following_right: bool  # the next request, without the ControlNet
    following_s: float
    repaired_right: bool
    repair_s: float  # from the kill to the first picture with the ControlNet
    refused: int  # requests with it meanwhile


class Trials:
    """One ControlNet of a running server, and the pictures that it should draw."""

    def __init__(self, server: Server, checkpoint: ServedCheckpoint) -> None:
        """Draw the pictures; raises LaunchError where that fails."""
        self._server = server
        self._name = checkpoint.controlnets[0].name
        steps = STEPS_ON_GPU if torch.cuda.is_available() else STEPS_ON_CPU
        self._plain, self._steered = (compose(checkpoint, names, steps) for names in ([], [self._name]))
        _, self._plain_picture = draw(server, self._plain)
        replies = [draw(server, self._steered) for _ in range(PREFACES)]
        reply, self._steered_picture = replies[-1]
        self._seconds = median(reply.seconds for reply, _ in replies)
        self.controlnet: dict[str, Any] = reply.info["controlnets"][0]
        self._chance = random.Random(0)

    def run(self) -> Trial:
        """Kill the ControlNet within a request, and see what becomes of that and of the next ones."""
        killed, reply = asyncio.run(self._kill_within(self._steered))
        following = ask_once(self._server, self._plain)
        refused, repaired = self._ask_until_repaired(killed)
        error_s = reply.received - killed
        return Trial(
            clean="UNAVAILABLE" in reply.failure and repr(self._name) in reply.failure and error_s <= TIMEOUT_S + 1,
            error_s=round(error_s, 3),
            sentence=reply.failure,
            following_right=_is_same(following, self._plain_picture),
            following_s=round(following.seconds, 3),
            repaired_right=_is_same(repaired, self._steered_picture),
            repair_s=round(repaired.received - killed, 2),
            refused=refused,
        )

    async def _kill_within(self, request: Request) -> tuple[float, Reply]:
        stubs = find_stubs(os.getpid(), self.controlnet["model"])
        if not stubs:
            raise LaunchError(f"there is no process of model {self.controlnet['model']!r} to kill")
        async with InferenceServerClient(self._server.grpc_url) as client:
            answer = asyncio.create_task(ask(client, LANE, request))
            await asyncio.sleep(self._seconds * self._chance.uniform(EARLY, LATE))
            killed = time.perf_counter()
            for stub in stubs:
                os.kill(stub, signal.SIGKILL)
            return killed, await answer

    def _ask_until_repaired(self, killed: float) -> tuple[int, Reply]:
        refused = 0
        while True:
            reply = ask_once(self._server, self._steered)
            if not reply.failure or time.perf_counter() > killed + REPAIR_S:
                return refused, reply
            refused += 1
            time.sleep(PAUSE_S)


def measure_failures(
    checkpoint: ServedCheckpoint, folder: Path, engine: str, kills: int, report: GrowingReport, progress: Progress
) -> None:
    """Kill `kills` times and add a row, rewritten after each; raises LaunchError where the server does not start."""
    if (read_figure(report.rows, FAILURES, "kill", "kills") or 0) >= kills:
        return
    gpus = torch.cuda.device_count()
    places = {checkpoint.controlnets[0].name: choose_last(gpus)}
    repository = write_models(checkpoint, places, folder / "failures", engine, gpus, progress)
    with serve_repository(repository, "controlnets-failures", progress) as server:
        trials = Trials(server, checkpoint)
        usages, done = [read_usage()], []
        for number in range(1, kills + 1):
            progress.update(f"kill {number} of {kills}")
            progress.pulse()
            done.append(trials.run())
            usages.append(read_usage())
            report.add({**describe_row(FAILURES, "kill"), **summarise(trials.controlnet, done, usages)})


def summarise(controlnet: dict[str, Any], trials: list[Trial], usages: list[Usage]) -> dict[str, Any]:
    """A row of all kills so far; memory counts from after the first, whose repair made what is kept."""
    return {
        "checkpoint": "shapes",
        "controlnet": controlnet,
        "kills": len(trials),
        "timeout_s": TIMEOUT_S,
        "clean": sum(trial.clean for trial in trials),
        "following_right": sum(trial.following_right for trial in trials),
        "repaired_right": sum(trial.repaired_right for trial in trials),
        "slowest_error_s": max(trial.error_s for trial in trials),
        "slowest_following_s": max(trial.following_s for trial in trials),
        "slowest_repair_s": max(trial.repair_s for trial in trials),
        "errors_s": [trial.error_s for trial in trials],
        "repairs_s": [trial.repair_s for trial in trials],
        "refused": [trial.refused for trial in trials],
        "sentences": sorted({trial.sentence for trial in trials}),
        **describe_growth(usages, since=1),
    }


def _is_same(reply: Reply, picture: NDArray[np.uint8]) -> bool:
    return reply.pixels is not None and np.array_equal(reply.pixels, picture)
