"""What the options choose: a checkpoint, LoRAs under fresh names, and a server for each system."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import describe_machine, name_host
from benchmarks.serving.checkpoints import FreshAdapters, ServedCheckpoint, prepare_checkpoint
from benchmarks.serving.held import find_held
from benchmarks.serving.repositories import SystemRepository, Tuning, place_ours, write_diffusers, write_ours
from benchmarks.serving.served import Served
from benchmarks.serving.systems import BEST, OURS, name_layout
from launch.paths import LOGS, OUTPUTS
from launch.ports import choose_free_ports
from launch.problems import LaunchError
from launch.progress import Progress
from launch.server import Server, ServerSettings
from swiftdiffusion.errors import SwiftDiffusionError
from swiftdiffusion_build.placement.gpus import find_gpus

START_SECONDS = 900.0  # to load and capture; compiling happens in the first requests
SLOTS = 2  # LoRA files that `best` wants to find when it starts


@contextmanager
def serve_repository(
    repository: SystemRepository, name: str, progress: Progress, *further_options: str
) -> Iterator[Server]:
    """Serve a repository on free ports, with tritonserver's further options; `name` is the log's.

    Raises LaunchError with what the log says if it does not start.
    """
    settings = ServerSettings(
        ports=choose_free_ports(),
        model_repositories=(repository.models,),
        python_backends=repository.backends,
        log=LOGS / f"benchmark-{name}.log",
        start_seconds=progress.seconds + START_SECONDS,
        stops_at_once=True,
        further_options=further_options,
    )
    with Server(settings) as server:
        server.wait_until_ready(progress)
        yield server


@contextmanager
def serve_written(
    checkpoint: ServedCheckpoint,
    system: str,
    write: Callable[[Path, FreshAdapters], SystemRepository],
    progress: Progress,
) -> Iterator[Served]:
    """Serve what `write` puts into a folder, with a store of LoRAs; raises LaunchError if it does not start."""
    # of this call alone, so that others can measure at the same time
    with tempfile.TemporaryDirectory(prefix=f"benchmark-{system}-") as scratch:
        adapters = FreshAdapters(checkpoint.lora_files, Path(scratch) / "adapters")
        repository = write(Path(scratch), adapters)
        with serve_repository(repository, system, progress) as server:
            yield Served(server.http_url, server.grpc_url, adapters, repository.count_gpus)


def choose_checkpoint(options: argparse.Namespace, progress: Progress) -> ServedCheckpoint:
    """What `add_checkpoint_options` names, written if need be; raises LaunchError for what cannot be served here."""
    on_gpu = torch.cuda.is_available()
    name = options.checkpoint or ("sdxl" if on_gpu else "shapes")
    if name == "sdxl" and not on_gpu:
        raise LaunchError("--checkpoint is 'sdxl', which takes a GPU; allowed here: shapes")
    folder: Path = (options.checkpoint_folder or OUTPUTS / "benchmark" / name).absolute()
    return prepare_checkpoint(name, folder, progress)


@contextmanager
def serve_diffusers(
    checkpoint: ServedCheckpoint, system: str, options: argparse.Namespace, progress: Progress
) -> Iterator[Served]:
    """Serve `stock` or `best`; raises LaunchError if it does not start."""
    compiles = system == BEST and (options.compile or (torch.cuda.is_available() and not options.no_compile))

    def write(folder: Path, adapters: FreshAdapters) -> SystemRepository:
        adapters.take(SLOTS)
        return write_diffusers(checkpoint, adapters.folder, folder, system, compiles)

    with serve_written(checkpoint, system, write, progress) as served:
        yield served


class Deployment:
    """One checkpoint, served by one system at a time."""

    def __init__(self, options: argparse.Namespace, progress: Progress) -> None:
        """Write the checkpoint if need be; raises LaunchError for what this machine cannot serve."""
        self._options = options
        self.checkpoint = choose_checkpoint(options, progress)
        self.tuning = Tuning(lane=dict(options.lane))
        self._machine = name_host(describe_machine())
        gpus = find_gpus()[: options.gpus]
        try:
            self._placement = place_ours(
                self.checkpoint, options.placement, gpus, options.engine, options.split_guidance
            )
        except SwiftDiffusionError as error:
            raise LaunchError(f"{str(error).rstrip('.')}.") from error

    def describe(self, system: str) -> dict[str, Any]:
        """What tells a system's rows from those of another deployment of it.

        `layout` says how many GPUs its models are on (diffusers' pipelines know one), `lane` has our lane's parameters
        and the name of its placement, `machine` the GPUs and cores that there are: eager's time is the host's.
        """
        here = {"machine": self._machine}
        if system != OURS:
            return {**here, "layout": name_layout(min(1, torch.cuda.device_count())), "lane": {}}
        placed = set(chain.from_iterable(self._placement.entries().values())) if self._placement else set()
        splits = 1 if "second_gpu" in self.tuning.lane and len(placed) == 1 else 0
        file = self._options.placement
        asked = {True: "split guidance", False: "whole guidance", None: ""}[self._options.split_guidance]
        placement = file.stem if file else asked
        lane = {**self.tuning.lane, **({"placement": placement} if placement else {})}
        return {**here, "layout": name_layout(len(placed) + splits), "lane": lane}

    @contextmanager
    def serve(self, system: str, progress: Progress) -> Iterator[Served]:
        """Serve a system on free ports, or find the server that is held.

        Raises LaunchError with what the log says if it does not start, and where none is held that should be.
        """
        if system != OURS and self._options.held:
            yield find_held(self._options.out, system, self.checkpoint)
        elif system != OURS:
            with serve_diffusers(self.checkpoint, system, self._options, progress) as served:
                yield served
        else:
            engine, placement = self._options.engine, self._placement

            def write(folder: Path, adapters: FreshAdapters) -> SystemRepository:
                return write_ours(self.checkpoint, adapters.folder, folder, engine, placement, self.tuning, progress)

            with serve_written(self.checkpoint, system, write, progress) as served:
                yield served
