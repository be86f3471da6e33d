"""The model repositories that the parts serve."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks.controlnets.configurations import AUTO_LANE, BESIDE_LANE, BLS_LANE, BOTH, FAR, NEAR, SPLIT_LANE
from benchmarks.serving.checkpoints import ServedCheckpoint
from benchmarks.serving.repositories import SystemRepository, Tuning, tune
from launch.paths import MODEL_REPOSITORY, PYTHON_BACKENDS
from launch.progress import Progress
from swiftdiffusion.controlnets.messages import BLS, IPC
from swiftdiffusion_build.export.subjects import Checkpoint
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.placement.instance_groups import write_instance_groups
from swiftdiffusion_build.placement.server_placement import CPU, Gpus, ServerPlacement
from swiftdiffusion_build.plans.profiles import default_profiles
from swiftdiffusion_build.repository import write_repository

STREAMED, NOT_ASKED = "swiftdiffusion_stream", "adapters"  # models that would only take time to load where none asks
SHARED = "controlnet_shared"


def choose_first(gpus: int) -> Gpus:
    """Where lanes are."""
    return (0,) if gpus else CPU


def choose_last(gpus: int) -> Gpus:
    """Where ControlNets are that a GPU of their own is to be had for."""
    return (gpus - 1,) if gpus else CPU


def require_transport(gpus: int) -> dict[str, str]:
    """The lane's parameters by which a ControlNet's tensors go through GPU memory or not at all, where there is any."""
    return {"controlnet_transport": IPC} if gpus else {}


def write_models(
    checkpoint: ServedCheckpoint,
    controlnets: Mapping[str, Gpus],
    folder: Path,
    engine: str,
    gpus: int,
    progress: Progress,
    lane: Mapping[str, str] = MappingProxyType({}),
    streams: bool = False,
) -> SystemRepository:
    """Write a repository with one lane, on the first GPU, and the checkpoint's first ControlNet.

    Args:
        checkpoint: what is served.
        controlnets: the names under which that one is served, and where.
        folder: the repository goes into it.
        engine: what runs the networks.
        gpus: how many there are.
        progress: shows what goes on.
        lane: further parameters of it.
        streams: whether requests are streamed.
    """
    here = choose_first(gpus)
    placement = ServerPlacement(here, here, {"lane": here}, controlnets)
    links = tuple(link_controlnet(checkpoint.controlnets[0], folder / "linked" / name) for name in controlnets)
    layout = Layout(folder)
    write_repository(
        MODEL_REPOSITORY,
        Checkpoint(checkpoint.pipeline, links),
        checkpoint.lora_files[0].parent,
        default_profiles(checkpoint.side),
        layout,
        lambda activity: nullcontext(progress),
        engine=engine,
        placement=placement,
    )
    for name in (NOT_ASKED,) if streams else (NOT_ASKED, STREAMED):
        shutil.rmtree(layout.model_repository / name)
    for file in layout.model_repository.glob("*/config.pbtxt"):
        if file.parent.name != STREAMED:  # which has no networks
            config = _read(file.parent)
            tune(config, checkpoint.side, bool(gpus), Tuning(lane=lane))
            _write(config, file.parent)
    return SystemRepository(layout.model_repository, PYTHON_BACKENDS, placement)


def write_lanes(
    checkpoint: ServedCheckpoint, folder: Path, engine: str, gpus: int, progress: Progress
) -> SystemRepository:
    """Write a repository with the lanes and ControlNets of `CONFIGURATIONS` that `gpus` GPUs can serve.

    Everything is on the first GPU but the ControlNet `far`, the second model of `both`, and half of the guidance of the
    lane that splits it.
    """
    first, last = choose_first(gpus), choose_last(gpus)
    places = {NEAR: first, **({FAR: last, BOTH: (*first, *last)} if gpus > 1 else {})}
    repository = write_models(checkpoint, places, folder, engine, gpus, progress)
    _add_lane(repository.models, BLS_LANE, controlnet_transport=BLS)
    if gpus:
        _add_lane(repository.models, BESIDE_LANE, controlnet_near_first="false")
    if gpus > 1:
        _add_lane(repository.models, SPLIT_LANE, second_gpu=f"cuda:{gpus - 1}")
    return repository


def write_shared(
    checkpoint: ServedCheckpoint,
    controlnets: Path,
    memory_mb: float,
    folder: Path,
    engine: str,
    gpus: int,
    progress: Progress,
) -> SystemRepository:
    """Write a repository in which one model serves all of a folder of ControlNets, on the last GPU.

    `memory_mb` is its parameter; the other arguments are those of `write_models`.
    """
    repository = write_models(checkpoint, {}, folder, engine, gpus, progress, require_transport(gpus))
    config = ModelConfig(backend="controlnet")
    for name, value in {"controlnets": controlnets, "engine": engine, "memory_mb": memory_mb}.items():
        config.parameters[name].string_value = str(value)
    write_instance_groups(config, {"": choose_last(gpus)})
    tune(config, checkpoint.side, bool(gpus), Tuning())
    _write(config, repository.models / SHARED)
    return repository


def link_controlnet(weights: Path, link: Path) -> Path:
    """A ControlNet's folder under another name, by which requests know it."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(weights.resolve())
    return link


def _add_lane(models: Path, name: str, **parameters: str) -> None:
    config = _read(models / AUTO_LANE)
    for parameter, value in parameters.items():
        config.parameters[parameter].string_value = value
    _write(config, models / name)


def _read(model: Path) -> ModelConfig:
    return text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())


def _write(config: ModelConfig, model: Path) -> None:
    (model / "1").mkdir(parents=True, exist_ok=True)
    (model / "config.pbtxt").write_text(text_format.MessageToString(config))
