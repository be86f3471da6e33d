"""A ControlNet's process is killed while it is at work for a request, again and again."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.controlnets.asking import ask_once, compose, draw
from benchmarks.controlnets.killing import Kill, kill_within
from benchmarks.controlnets.processes import find_stubs
from benchmarks.controlnets.repository import choose_first, choose_last, require_transport, write_models
from benchmarks.controlnets.rows import FAILURES, describe_row, read_figure
from benchmarks.controlnets.usage import Usage, describe_growth, read_usage
from benchmarks.runs import GrowingReport
from benchmarks.serving.checkpoints import ServedCheckpoint
from benchmarks.serving.client import Reply
from benchmarks.serving.deployment import serve_repository
from launch.problems import LaunchError
from launch.progress import Progress
from launch.server import Server
from swiftdiffusion.lane_configuration import LaneConfiguration

TIMEOUT_S = LaneConfiguration.controlnet_timeout_s
STEPS_ON_GPU, STEPS_ON_CPU = 100, 20  # long enough to be killed in
LATEST = 0.6  # the last step within which the kill comes, as a share of all
ATTEMPTS = 2  # more to kill while the request is open: what is told of its steps is a moment old
REPAIR_S, PAUSE_S = 120.0, 0.25


@dataclass(frozen=True)
class Trial:
    """What came of one kill; times in seconds."""

    clean: bool  # UNAVAILABLE, with the ControlNet's name, in time
    step: int  # the last that was done when the kill came
    outrun: int  # earlier kills that the request was too far for: its picture came all the same
    error_s: float  # from the kill to the answer
    sentence: str  # of the answer; empty for a picture
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
        self.steps = STEPS_ON_GPU if torch.cuda.is_available() else STEPS_ON_CPU
        self._plain, self._steered = (compose(checkpoint, names, self.steps) for names in ([], [self._name]))
        _, self._plain_picture = draw(server, self._plain)
        reply, self._steered_picture = draw(server, self._steered)
        self.controlnet: dict[str, Any] = reply.info["controlnets"][0]
        self._chance = random.Random(0)

    def run(self) -> Trial:
        """Kill the ControlNet within a request, and see what becomes of that and of the next ones."""
        outrun = 0
        while True:
            kill = self._kill()
            following = ask_once(self._server, self._plain)
            refused, repaired = self._ask_until_repaired(kill.killed)
            if kill.failure or outrun == ATTEMPTS:
                break
            outrun += 1
        error_s = kill.answered - kill.killed
        return Trial(
            clean="UNAVAILABLE" in kill.failure and repr(self._name) in kill.failure and error_s <= TIMEOUT_S + 1,
            step=kill.step,
            outrun=outrun,
            error_s=round(error_s, 3),
            sentence=kill.failure,
            following_right=_is_same(following, self._plain_picture),
            following_s=round(following.seconds, 3),
            repaired_right=_is_same(repaired, self._steered_picture),
            repair_s=round(repaired.received - kill.killed, 2),
            refused=refused,
        )

    def read_usage(self) -> Usage:
        """What is held by all but the process that is killed, which is a new one each time."""
        return read_usage(but=self.controlnet["model"])

    def _kill(self) -> Kill:
        stubs = find_stubs(os.getpid(), self.controlnet["model"])
        if not stubs:
            raise LaunchError(f"there is no process of model {self.controlnet['model']!r} to kill")
        step = self._chance.randint(1, int(self.steps * LATEST))
        return asyncio.run(kill_within(self._server.grpc_url, self._steered, step, stubs))

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
    repository = write_models(
        checkpoint, places, folder / "failures", engine, gpus, progress, require_transport(gpus), streams=True
    )
    with serve_repository(repository, "controlnets-failures", progress) as server:
        trials = Trials(server, checkpoint)
        described = {
            "checkpoint": checkpoint.name,
            "controlnet": trials.controlnet,
            "gpus": [*places[checkpoint.controlnets[0].name], *choose_first(gpus)] if gpus else [],
            "steps": trials.steps,
        }
        usages, done = [trials.read_usage()], []
        for number in range(1, kills + 1):
            progress.update(f"kill {number} of {kills}")
            progress.pulse()
            done.append(trials.run())
            usages.append(trials.read_usage())
            report.add({**describe_row(FAILURES, "kill"), **described, **summarise(done, usages)})


def summarise(trials: list[Trial], usages: list[Usage]) -> dict[str, Any]:
    """The figures of all kills so far."""
    return {
        "kills": len(trials),
        "timeout_s": TIMEOUT_S,
        "clean": sum(trial.clean for trial in trials),
        "outrun": sum(trial.outrun for trial in trials),
        "killed_after_step": [trial.step for trial in trials],
        "following_right": sum(trial.following_right for trial in trials),
        "repaired_right": sum(trial.repaired_right for trial in trials),
        "slowest_error_s": max(trial.error_s for trial in trials),
        "slowest_following_s": max(trial.following_s for trial in trials),
        "slowest_repair_s": max(trial.repair_s for trial in trials),
        "errors_s": [trial.error_s for trial in trials],
        "repairs_s": [trial.repair_s for trial in trials],
        "refused": [trial.refused for trial in trials],
        "sentences": sorted({trial.sentence for trial in trials}),
        **describe_growth(usages),
    }


def _is_same(reply: Reply, picture: NDArray[np.uint8]) -> bool:
    return reply.pixels is not None and np.array_equal(reply.pixels, picture)
