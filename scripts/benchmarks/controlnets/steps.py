"""What a step takes with and without a ControlNet, on one GPU and on two, through tritonserver; and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.controlnets.configurations import (
    COMPARED,
    CONFIGURATIONS,
    NUDGED,
    Configuration,
    choose_configurations,
)
from benchmarks.controlnets.repository import write_lanes
from benchmarks.controlnets.rows import PICTURES, STEPS, describe_lack, describe_row, find_row, leave_out
from benchmarks.runs import GrowingReport, Row
from benchmarks.serving.checkpoints import ServedCheckpoint, add_controlnets, make_request
from benchmarks.serving.client import Reply, ask_in_turn
from benchmarks.serving.deployment import serve_repository
from launch.problems import LaunchError
from launch.progress import Progress
from launch.server import Server

WARM_UP_STEPS = 2
SEED = 7  # one prompt and one seed for all, so that the prompt is remembered and pictures can be compared


@dataclass(frozen=True)
class Counts:
    """How many steps and repeats; a step is what the longer requests take more, by the steps that they have more."""

    steps: tuple[int, int]  # of the two lengths of request
    slow_steps: tuple[int, int]  # of those to slow configurations
    repeats: int

    def of(self, configuration: Configuration) -> tuple[int, int]:
        """The two lengths of a configuration's requests."""
        return self.slow_steps if configuration.is_slow else self.steps


class StepsMeasurement:
    """One server and its client."""

    def __init__(self, server: Server, checkpoint: ServedCheckpoint, on_gpu: bool) -> None:
        self._server, self._checkpoint, self._on_gpu = server, checkpoint, on_gpu
        self._pictures: dict[tuple[str, int], NDArray[np.uint8]] = {}

    def ask(self, configuration: Configuration, steps: int) -> Reply:
        """Send one request; raises LaunchError where it fails, or its ControlNet is attached in another way."""
        request = {
            **make_request(self._checkpoint, SEED, steps, "raw"),
            "guidance_scale": [self._checkpoint.guidance_scale * configuration.guidance],
            **add_controlnets(self._checkpoint, list(configuration.controlnets)),
        }
        (reply,) = ask_in_turn(self._server.grpc_url, configuration.lane, [request])
        if reply.failure:
            raise LaunchError(reply.failure)
        for used in reply.info["controlnets"]:
            if self._on_gpu and used["transport"] != configuration.transport:
                raise LaunchError(
                    f"ControlNet {used['name']!r} was attached by {used['transport']}, not {configuration.transport}: "
                    f"{used.get('reason', '')}"
                )
        assert reply.pixels is not None
        self._pictures.setdefault((configuration.name, steps), reply.pixels)
        return reply

    def measure(self, configurations: Sequence[Configuration], counts: Counts, progress: Progress) -> list[Row]:
        """Time the configurations by turns, so that what changes meanwhile meets all of them; a row for each."""
        rows = {one.name: describe_row(STEPS, one.name) for one in configurations}
        seconds: dict[str, dict[int, list[float]]] = {one.name: {} for one in configurations}
        for number in range(counts.repeats + 1):  # the first round warms up
            for one in configurations:
                progress.update(f"{one.label}, round {number} of {counts.repeats}")
                progress.pulse()
                lengths = counts.of(one) if number else (min(WARM_UP_STEPS, counts.of(one)[1]),)
                try:
                    for steps in lengths if "failed" not in rows[one.name] else ():
                        reply = self.ask(one, steps)
                        if number:
                            seconds[one.name].setdefault(steps, []).append(reply.seconds)
                            rows[one.name]["controlnets"] = reply.info["controlnets"]
                except LaunchError as problem:
                    rows[one.name]["failed"] = str(problem)
        return [
            row if "failed" in row else {**row, **summarise(seconds[row["name"]], counts.repeats)}
            for row in rows.values()
        ]

    def compare(self, configurations: Sequence[Configuration], counts: Counts) -> list[Row]:
        """Compare the pictures of two configurations, at the most steps that both take; a row for each pair."""
        by_name = {one.name: one for one in (*configurations, NUDGED)}
        rows = []
        for pair in COMPARED:
            if not by_name.keys() >= set(pair):
                continue
            chosen = [by_name[name] for name in pair]
            steps = min(counts.of(one)[1] for one in chosen)
            row = describe_row(PICTURES, f"{pair[0]}_vs_{pair[1]}") | {"steps": steps}
            try:
                first, second = (self._draw(one, steps) for one in chosen)
                rows.append(row | compare_pictures(first, second))
            except LaunchError as problem:
                rows.append(row | {"failed": str(problem)})
        return rows

    def _draw(self, configuration: Configuration, steps: int) -> NDArray[np.uint8]:
        key = configuration.name, steps
        if key not in self._pictures:
            self.ask(configuration, steps)
        return self._pictures[key]


def measure_steps(
    checkpoint: ServedCheckpoint, folder: Path, engine: str, counts: Counts, report: GrowingReport, progress: Progress
) -> None:
    """Serve all lanes at once and add the rows of `steps` and `pictures` to the report.

    Args:
        checkpoint: what is served.
        folder: the repository goes into it.
        engine: what runs the networks.
        counts: of steps and repeats.
        report: gets a row for each configuration, the left out ones too.
        progress: shows what goes on.

    Raises LaunchError where the server does not start.
    """
    gpus = torch.cuda.device_count()
    configurations = choose_configurations(gpus)
    for one in CONFIGURATIONS:
        if one not in configurations:
            leave_out(report, STEPS, one.name, describe_lack(one.gpus, gpus))
    if all(find_row(report.rows, STEPS, one.name) for one in configurations):
        return
    loras = checkpoint.lora_files[0].parent
    repository = write_lanes(checkpoint, loras, folder / "lanes", engine, gpus, progress)
    with serve_repository(repository, "controlnets", progress) as server:
        measurement = StepsMeasurement(server, checkpoint, bool(gpus))
        for row in measurement.measure(configurations, counts, progress):
            report.add(row)
        for row in measurement.compare(configurations, counts):
            report.add(row)


def summarise(seconds: dict[int, list[float]], repeats: int) -> dict[str, Any]:
    """A step's milliseconds from requests of two lengths.

    Args:
        seconds: that the client waited, by the number of steps.
        repeats: of each.
    """
    (short, brief), (long, lengthy) = sorted(seconds.items())
    return {
        "steps": [short, long],
        "repeats": repeats,
        "step_ms": round(1e3 * (median(lengthy) - median(brief)) / (long - short), 3),
        "request_s": round(median(lengthy), 4),
        "seconds": {str(steps): [round(one, 4) for one in each] for steps, each in sorted(seconds.items())},
    }


def compare_pictures(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> dict[str, Any]:
    """How far apart two pictures of uint8 [height, width, 3] are.

    Returns:
        `max_difference` and `mean_difference` of 255; `relative`: the difference's root mean square by the second
        picture's standard deviation; `contrast`: the latter, of 255.
    """
    first, second = one.astype(np.float64), other.astype(np.float64)
    difference = np.abs(first - second)
    contrast = float(second.std())
    return {
        "max_difference": int(difference.max()),
        "mean_difference": round(float(difference.mean()), 5),
        "relative": round(float(np.sqrt(np.mean(difference**2))) / contrast, 6) if contrast else None,
        "contrast": round(contrast, 3),
    }
