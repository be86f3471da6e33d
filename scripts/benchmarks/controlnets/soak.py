"""Many requests with ControlNets chosen at random, for more of them than there is room."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.controlnets.asking import ask_once, compose
from benchmarks.controlnets.repository import choose_first, choose_last, link_controlnet, write_shared
from benchmarks.controlnets.rows import SOAK, describe_row, read_figure
from benchmarks.controlnets.usage import describe_growth, read_usage
from benchmarks.runs import GrowingReport
from benchmarks.serving.checkpoints import ServedCheckpoint
from benchmarks.serving.deployment import serve_repository
from launch.progress import Progress
from swiftdiffusion.networks.weight_files import count_weights
from swiftdiffusion.placement import DTYPES

NAMES, ROOM, MOST = 5, 3, 3  # ControlNets that there are, that are held at a time, and of a request
STEPS = 4
SAMPLES = 50  # how often memory is looked at


def measure_soak(
    checkpoint: ServedCheckpoint, folder: Path, engine: str, requests: int, report: GrowingReport, progress: Progress
) -> None:
    """Send the requests one after the other and add a row; raises LaunchError where the server does not start."""
    if (read_figure(report.rows, SOAK, "random", "requests") or 0) >= requests:
        return
    gpus, folder = torch.cuda.device_count(), folder / "soak"
    weights = link_controlnets(checkpoint, folder / "controlnets")
    repository = write_shared(
        checkpoint, folder / "controlnets", count_room(checkpoint, gpus), folder, engine, gpus, progress
    )
    pictures: dict[tuple[Path, ...], NDArray[np.uint8]] = {}
    failures, wrong, usages = [], 0, []
    transports: set[str] = set()
    asked = list(draw_names(sorted(weights), requests))
    with serve_repository(repository, "controlnets-soak", progress) as server:
        for number, names in enumerate(asked):
            progress.update(f"request {number + 1} of {requests}")
            progress.pulse()
            reply = ask_once(server, compose(checkpoint, names, STEPS))
            if reply.pixels is None:
                failures.append(reply.failure)
            else:  # others of the same weights draw the same
                expected = pictures.setdefault(tuple(weights[name] for name in names), reply.pixels)
                transports.update(one["transport"] for one in reply.info["controlnets"])
                wrong += not np.array_equal(reply.pixels, expected)
            if (number + 1) % max(1, requests // SAMPLES) == 0:
                usages.append(read_usage())
    report.add(
        {
            **describe_row(SOAK, "random"),
            "checkpoint": checkpoint.name,
            "requests": requests,
            "controlnets": {"there": NAMES, "room": ROOM, "of_a_request": MOST},
            "right": requests - len(failures) - wrong,
            "failed_requests": len(failures),
            "sentences": sorted(set(failures)),
            "evictions": count_evictions(asked),
            "transports": sorted(transports),
            "gpus": [*choose_last(gpus), *choose_first(gpus)] if gpus else [],
            **describe_growth(usages),
        }
    )


def draw_names(names: Sequence[str], requests: int) -> Iterator[list[str]]:
    """For each request up to `MOST` different names."""
    chance = random.Random(0)
    for _ in range(requests):
        yield chance.sample(names, chance.randint(0, MOST))


def count_evictions(asked: Sequence[Sequence[str]]) -> int:
    """How many ControlNets the rule of the least recently used drops for these requests, with room for `ROOM`."""
    held: OrderedDict[str, None] = OrderedDict()
    evictions = 0
    for names in asked:
        for name in names:
            held.pop(name, None)
            held[name] = None
        while len(held) > ROOM:
            held.popitem(last=False)
            evictions += 1
    return evictions


def link_controlnets(checkpoint: ServedCheckpoint, folder: Path) -> dict[str, Path]:
    """A folder of `NAMES` ControlNets, with the checkpoint's by turns; the weights of each name."""
    weights = {
        f"controlnet_{number}": checkpoint.controlnets[number % len(checkpoint.controlnets)].resolve()
        for number in range(NAMES)
    }
    for name, target in weights.items():
        link_controlnet(target, folder / name)
    return weights


def count_room(checkpoint: ServedCheckpoint, gpus: int) -> float:
    """MiB of the weights of `ROOM` ControlNets and half another, as they are on the device."""
    dtype = DTYPES["fp16" if gpus else "fp32"]
    return round((ROOM + 0.5) * count_weights(checkpoint.controlnets[0]) * dtype.itemsize / 2**20, 3)
