"""The model repository of the part `steps`: three lanes and one ControlNet's weights, served on each GPU."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks.controlnets.configurations import AUTO_LANE, BLS_LANE, FAR, NEAR, SPLIT_LANE
from benchmarks.serving.checkpoints import ServedCheckpoint
from benchmarks.serving.repositories import NETWORKS, SystemRepository, Tuning, tune
from launch.paths import MODEL_REPOSITORY, PYTHON_BACKENDS
from launch.progress import Progress
from swiftdiffusion.controlnets.messages import BLS
from swiftdiffusion_build.export.subjects import Checkpoint
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.placement.server_placement import CPU, Gpus, ServerPlacement
from swiftdiffusion_build.plans.profiles import default_profiles
from swiftdiffusion_build.repository import write_repository

SECOND = "cuda:1"
NOT_MEASURED = ("swiftdiffusion_stream",)


def write_lanes(
    checkpoint: ServedCheckpoint, adapters: Path, folder: Path, engine: str, gpus: int, progress: Progress
) -> SystemRepository:
    """Write a repository with the lanes and ControlNets of `CONFIGURATIONS` that `gpus` GPUs can serve.

    Everything is on the first GPU but the ControlNet `far` and half of the guidance of the lane that splits it.

    Args:
        checkpoint: what is served, of its ControlNets the first.
        adapters: a folder of LoRAs.
        folder: the repository goes into it.
        engine: what runs the networks.
        gpus: how many there are.
        progress: shows what goes on.
    """
    here: Gpus = (0,) if gpus else CPU
    places = {NEAR: here, **({FAR: (1,)} if gpus > 1 else {})}
    placement = ServerPlacement(here, here, {"lane": here}, places)
    served = Checkpoint(checkpoint.pipeline, tuple(_link(checkpoint.controlnets[0], folder, name) for name in places))
    layout = Layout(folder)
    write_repository(
        MODEL_REPOSITORY,
        served,
        adapters,
        default_profiles(checkpoint.side),
        layout,
        lambda activity: nullcontext(progress),
        engine=engine,
        placement=placement,
    )
    models = layout.model_repository
    for name in NOT_MEASURED:
        _remove(models / name)
    for file in models.glob("*/config.pbtxt"):
        config = _read(file)
        if config.backend in NETWORKS:
            tune(config, checkpoint.side, bool(gpus), Tuning())
            _write(config, file)
    lane = _read(models / AUTO_LANE / "config.pbtxt")
    _add_lane(models, lane, BLS_LANE, controlnet_transport=BLS)
    if gpus > 1:
        _add_lane(models, lane, SPLIT_LANE, second_gpu=SECOND)
    return SystemRepository(models, PYTHON_BACKENDS, placement)


def _link(weights: Path, folder: Path, name: str) -> Path:
    """The ControlNet's folder under another name, by which requests know it."""
    link = folder / "controlnets" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(weights.resolve())
    return link


def _add_lane(models: Path, lane: ModelConfig, name: str, **parameters: str) -> None:
    config = ModelConfig()
    config.CopyFrom(lane)
    for parameter, value in parameters.items():
        config.parameters[parameter].string_value = value
    (models / name / "1").mkdir(parents=True)
    _write(config, models / name / "config.pbtxt")


def _remove(model: Path) -> None:
    (model / "config.pbtxt").unlink()
    (model / "1").rmdir()
    model.rmdir()


def _read(file: Path) -> ModelConfig:
    return text_format.Parse(file.read_text(), ModelConfig())


def _write(config: ModelConfig, file: Path) -> None:
    file.write_text(text_format.MessageToString(config))
