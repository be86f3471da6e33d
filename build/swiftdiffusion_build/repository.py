"""The step `repository`: the project's models, configured for a checkpoint and its plans."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from swiftdiffusion.engines.tensorrt.records import Profile, read_plan_record
from swiftdiffusion_build.export.subjects import Checkpoint
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.progress import Begin

# of the checkpoint that the project's own configurations serve, and of no other
OWN_PARAMETERS = ("width", "height", "size_min", "size_max", "guidance_scale", "threads")
CONTROLNET = "controlnet_"


def write_repository(
    models: Path, checkpoint: Checkpoint, adapters: Path, profiles: Sequence[Profile], layout: Layout, begin: Begin
) -> None:
    """Write a model repository that serves a checkpoint from its plans, as `models` serves the project's own.

    Args:
        models: the project's model repository.
        checkpoint: what is served; a ControlNet by its folder's name.
        adapters: the folder of LoRAs.
        profiles: the sizes that plans were built for: they bound those of requests, and the first is the default.
        layout: where the plans are, and where the repository goes.
        begin: opens the activity.

    Raises:
        InvalidArgument: a plan is missing.
    """
    with begin("writing the model repository") as progress:
        for name in checkpoint.subjects():
            read_plan_record(layout.plan(name).with_suffix(".json"))
        shutil.rmtree(layout.model_repository, ignore_errors=True)
        for file in sorted(models.glob("*/config.pbtxt")):
            name = file.parent.name
            if name.startswith(CONTROLNET):
                continue
            config = text_format.Parse(file.read_text(), ModelConfig())
            if "pipeline" in config.parameters:
                _configure(config, checkpoint, adapters, profiles, layout)
            _write(config, layout.model_repository / name)
            progress.update(name)
        for folder in checkpoint.controlnets:
            config = ModelConfig(backend="controlnet")
            _set(config, controlnet=folder.resolve(), engine="tensorrt", plans=layout.plans.resolve())
            _write(config, layout.model_repository / f"{CONTROLNET}{folder.name}")
            progress.update(folder.name)


def _configure(
    config: ModelConfig, checkpoint: Checkpoint, adapters: Path, profiles: Sequence[Profile], layout: Layout
) -> None:
    for parameter in OWN_PARAMETERS:
        config.parameters.pop(parameter, None)
    _set(config, pipeline=checkpoint.pipeline.resolve(), engine="tensorrt", plans=layout.plans.resolve())
    if "adapters" in config.parameters:
        _set(config, adapters=adapters.resolve())
    if config.backend == "diffusion":
        best = profiles[0].best
        _set(
            config,
            width=best.width,
            height=best.height,
            size_min=min(min(profile.low.height, profile.low.width) for profile in profiles),
            size_max=max(max(profile.high.height, profile.high.width) for profile in profiles),
        )


def _set(config: ModelConfig, **parameters: object) -> None:
    for name, value in parameters.items():
        config.parameters[name].string_value = str(value)


def _write(config: ModelConfig, folder: Path) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
