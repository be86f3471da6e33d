"""Model repositories of one checkpoint, one for each system."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
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
from swiftdiffusion_build.placement.gpus import Gpu, find_gpus
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
        apart = [name for name in controlnets if name not in self.placement.resident]
        return max(1, len(lane.union(self.placement.controlnets[name][0] for name in apart)))


@dataclass(frozen=True)
class Tuning:
    """Parameters of our models beside those that follow from the checkpoint and the machine."""

    cache_mb: int = 0  # the host cache for LoRAs; 0 for none
    networks: Mapping[str, str] = field(default_factory=dict)  # of all models with networks
    lane: Mapping[str, str] = field(default_factory=dict)  # of `swiftdiffusion`


def place_ours(
    checkpoint: ServedCheckpoint,
    file: Path | None,
    gpus: Sequence[Gpu],
    engine: str,
    split_guidance: bool | None = None,
    resident: bool = True,
) -> ServerPlacement | None:
    """Where this project's models go: as the file says, else as `scripts/build placement` suggests for these GPUs.

    None where there is neither a file nor a GPU. Raises InvalidArgument for what cannot work.
    """
    if not (file or gpus or split_guidance):
        return None
    footprints = read_footprints(_describe(checkpoint))
    placement = (
        read_placement(file) if file else suggest_placement(footprints, gpus, split_guidance, resident).placement
    )
    check_placement(placement, footprints, gpus, engine)
    return placement


def write_ours(
    checkpoint: ServedCheckpoint,
    adapters: Path,
    folder: Path,
    engine: str,
    placement: ServerPlacement | None,
    tuning: Tuning,
    progress: Progress,
) -> SystemRepository:
    """This project's models.

    Args:
        checkpoint: what is served.
        adapters: the folder of LoRAs.
        folder: the repository goes into it.
        engine: what runs the networks.
        placement: where, as `place_ours` has it.
        tuning: the models' parameters.
        progress: shows what goes on.
    """
    layout = Layout(folder)
    profiles = default_profiles(checkpoint.side)
    write_repository(
        MODEL_REPOSITORY,
        _describe(checkpoint),
        adapters,
        profiles,
        layout,
        lambda activity: nullcontext(progress),
        engine=engine,
        placement=placement,
    )
    on_gpu = placement is not None and any(placement.entries().values())
    for file in layout.model_repository.glob("*/config.pbtxt"):
        config = text_format.Parse(file.read_text(), ModelConfig())
        if config.backend in NETWORKS and "lane" not in config.parameters:
            tune(config, checkpoint.side, on_gpu, tuning)
            file.write_text(text_format.MessageToString(config))
    return SystemRepository(layout.model_repository, PYTHON_BACKENDS, placement, "second_gpu" in tuning.lane)


def _describe(checkpoint: ServedCheckpoint) -> Checkpoint:
    return Checkpoint(checkpoint.pipeline, checkpoint.controlnets)


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
