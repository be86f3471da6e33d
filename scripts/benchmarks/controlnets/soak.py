"""Many requests with ControlNets chosen at random, for more of them than there is room."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks.controlnets.asking import ask_once, compose
from benchmarks.controlnets.rows import SOAK, describe_row, read_figure
from benchmarks.controlnets.usage import describe_growth, read_usage
from benchmarks.runs import GrowingReport
from benchmarks.serving.checkpoints import ServedCheckpoint
from benchmarks.serving.deployment import serve_repository
from benchmarks.serving.repositories import SystemRepository, tune
from launch.paths import MODEL_REPOSITORY, PYTHON_BACKENDS
from launch.progress import Progress
from swiftdiffusion.networks.weight_files import count_weights
from swiftdiffusion.placement import DTYPES
from swiftdiffusion_build.export.subjects import Checkpoint
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.placement.instance_groups import write_instance_groups
from swiftdiffusion_build.placement.server_placement import CPU, Gpus, ServerPlacement
from swiftdiffusion_build.plans.profiles import default_profiles
from swiftdiffusion_build.repository import write_repository

NAMES, ROOM, MOST = 5, 3, 3  # ControlNets that there are, that are held at a time, and of a request
STEPS = 4
MODEL = "controlnet_shared"
SAMPLES = 20  # how often memory is looked at
SETTLED = 0.25  # the share of requests after which it should not grow any more


def measure_soak(
    checkpoint: ServedCheckpoint, folder: Path, engine: str, requests: int, report: GrowingReport, progress: Progress
) -> None:
    """Send the requests one after the other and add a row; raises LaunchError where the server does not start."""
    if (read_figure(report.rows, SOAK, "random", "requests") or 0) >= requests:
        return
    weights = link_controlnets(checkpoint, folder / "soak" / "controlnets")
    repository = write_shared(checkpoint, folder / "soak", engine, torch.cuda.device_count(), progress)
    pictures: dict[tuple[Path, ...], NDArray[np.uint8]] = {}
    failures, wrong, usages = [], 0, []
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
            **describe_growth(usages, since=int(len(usages) * SETTLED)),
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
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"controlnet_{number}": checkpoint.controlnets[number % len(checkpoint.controlnets)].resolve()
        for number in range(NAMES)
    }
    for name, target in weights.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    return weights


def write_shared(
    checkpoint: ServedCheckpoint, folder: Path, engine: str, gpus: int, progress: Progress
) -> SystemRepository:
    """A repository in which one model serves all of `folder/controlnets`, on the last GPU, with room for `ROOM`."""
    here: Gpus = (0,) if gpus else CPU
    placement = ServerPlacement(here, here, {"lane": here})
    layout = Layout(folder)
    write_repository(
        MODEL_REPOSITORY,
        Checkpoint(checkpoint.pipeline),
        checkpoint.lora_files[0].parent,
        default_profiles(checkpoint.side),
        layout,
        lambda activity: nullcontext(progress),
        engine=engine,
        placement=placement,
    )
    config = ModelConfig(backend="controlnet")
    parameters = {"controlnets": folder / "controlnets", "engine": engine, "memory_mb": count_room(checkpoint, gpus)}
    for name, value in parameters.items():
        config.parameters[name].string_value = str(value)
    write_instance_groups(config, {"": (gpus - 1,) if gpus else CPU})
    tune(config, checkpoint.side, bool(gpus), cache_mb=0)
    model = layout.model_repository / MODEL
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(text_format.MessageToString(config))
    return SystemRepository(layout.model_repository, PYTHON_BACKENDS, placement)


def count_room(checkpoint: ServedCheckpoint, gpus: int) -> float:
    """MiB of the weights of `ROOM` ControlNets and half another, as they are on the device."""
    dtype = DTYPES["fp16" if gpus else "fp32"]
    return round((ROOM + 0.5) * count_weights(checkpoint.controlnets[0]) * dtype.itemsize / 2**20, 3)
