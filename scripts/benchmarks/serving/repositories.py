"""Model repositories of one checkpoint, one for each system."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from benchmarks.serving.checkpoints import ServedCheckpoint
from benchmarks.serving.systems import MODELS
from launch.paths import MODEL_REPOSITORY, PYTHON_BACKENDS
from launch.progress import Progress
from swiftdiffusion_build.export.subjects import Checkpoint
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.placement.checking import check_placement
from swiftdiffusion_build.placement.file import read_placement
from swiftdiffusion_build.placement.footprints import read_footprints
from swiftdiffusion_build.placement.gpus import find_gpus
from swiftdiffusion_build.placement.planner import suggest_placement
from swiftdiffusion_build.placement.server_placement import ServerPlacement
from swiftdiffusion_build.plans.profiles import default_profiles
from swiftdiffusion_build.repository import write_repository

BACKEND = "diffusers_pipeline"
NETWORKS = ("diffusion", "text_encoder", "vae", "controlnet")  # backends that run some
BACKENDS = Path(__file__).parent / "backends"


@dataclass(frozen=True)
class SystemRepository:
    """What a server needs to serve one system."""

    models: Path
    backends: Path
    placement: ServerPlacement | None = None  # ours, where there are GPUs
    splits_guidance: bool = False  # a lane has two of them

    def count_gpus(self, controlnets: list[str]) -> int:
        """How many GPUs work on a request with these ControlNets; one for a system that has no placement."""
        if self.placement is None:
            return 1
        lane = {*next(iter(self.placement.lanes.values())), *([1] if self.splits_guidance else [])}
        return max(1, len(lane.union(self.placement.controlnets[name][0] for name in controlnets)))


@dataclass(frozen=True)
class Tuning:
    """Parameters of our models beside those that follow from the checkpoint and the machine."""

    cache_mb: int = 0  # the host cache for LoRAs; 0 for none
    networks: Mapping[str, str] = field(default_factory=dict)  # of all models with networks
    lane: Mapping[str, str] = field(default_factory=dict)  # of `swiftdiffusion`


def write_ours(
    checkpoint: ServedCheckpoint,
    adapters: Path,
    folder: Path,
    engine: str,
    placement_file: Path | None,
    tuning: Tuning,
    progress: Progress,
) -> SystemRepository:
    """This project's models, placed as the file says or as `scripts/build placement` suggests.

    Args:
        checkpoint: what is served.
        adapters: the folder of LoRAs.
        folder: the repository goes into it.
        engine: what runs the networks.
        placement_file: as `scripts/build` reads it.
        tuning: the models' parameters.
        progress: shows what goes on.
    """
    served = Checkpoint(checkpoint.pipeline, checkpoint.controlnets)
    gpus, footprints = find_gpus(), read_footprints(served)
    placement = None
    if placement_file or gpus:
        placement = read_placement(placement_file) if placement_file else suggest_placement(footprints, gpus).placement
        check_placement(placement, footprints, gpus, engine)
    layout = Layout(folder)
    profiles = default_profiles(checkpoint.side)
    write_repository(
        MODEL_REPOSITORY,
        served,
        adapters,
        profiles,
        layout,
        lambda activity: nullcontext(progress),
        engine=engine,
        placement=placement,
    )
    for file in layout.model_repository.glob("*/config.pbtxt"):
        config = text_format.Parse(file.read_text(), ModelConfig())
        if config.backend in NETWORKS and "lane" not in config.parameters:
            tune(config, checkpoint.side, bool(gpus), tuning)
            file.write_text(text_format.MessageToString(config))
    return SystemRepository(layout.model_repository, PYTHON_BACKENDS, placement, "second_gpu" in tuning.lane)


def write_diffusers(
    checkpoint: ServedCheckpoint, adapters: Path, folder: Path, system: str, compiles: bool
) -> SystemRepository:
    """A model that runs diffusers' own pipeline, on the first GPU if there is one; `compiles` concerns `best`."""
    models = folder / "model_repository"
    shutil.rmtree(models, ignore_errors=True)
    config = ModelConfig(backend=BACKEND)
    group = config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)
    if find_gpus():
        group.kind = ModelInstanceGroup.KIND_GPU
        group.gpus.append(0)
    parameters = {
        "system": system,
        "pipeline": checkpoint.pipeline,
        "controlnets": ",".join(str(path) for path in checkpoint.controlnets),
        "adapters": adapters,
        "compiles": str(compiles).lower(),
        "size_min": 64,
    }
    for name, value in parameters.items():
        config.parameters[name].string_value = str(value)
    model = models / MODELS[system]
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(text_format.MessageToString(config))
    return SystemRepository(models, BACKENDS)


def tune(config: ModelConfig, side: int, on_gpu: bool, tuning: Tuning) -> None:
    """Set what a deployment would: the size to warm up for, the LoRAs' cache, threads; and what is asked for."""
    parameters = dict(tuning.networks)
    if config.backend in ("diffusion", "text_encoder"):
        parameters["lora_cache_mb"] = str(tuning.cache_mb)
    if not on_gpu:
        parameters["threads"] = "1"  # small networks that run side by side
    elif config.backend != "text_encoder":
        parameters["warm_up"] = f"{side}x{side}"
    if config.backend == "diffusion":
        parameters.update(tuning.lane)
    for name, value in parameters.items():
        config.parameters[name].string_value = value
