"""The step `repository`: the project's models, configured for a checkpoint, an engine and a machine's GPUs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from swiftdiffusion.engines.tensorrt.records import Profile, read_plan_record
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion_build.export.subjects import Checkpoint
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.placement.instance_groups import write_instance_groups
from swiftdiffusion_build.placement.server_placement import ServerPlacement
from swiftdiffusion_build.progress import Begin

# of the checkpoint that the project's own configurations serve, and of no other
OWN_PARAMETERS = ("width", "height", "size_min", "size_max", "guidance_scale", "threads")
LANE, STREAM, CONTROLNET = "swiftdiffusion", "swiftdiffusion_stream", "controlnet_"
TENSORRT = "tensorrt"


def write_repository(
    models: Path,
    checkpoint: Checkpoint,
    adapters: Path,
    profiles: Sequence[Profile],
    layout: Layout,
    begin: Begin,
    *,
    engine: str = TENSORRT,
    placement: ServerPlacement | None = None,
) -> None:
    """Write a model repository that serves a checkpoint, as `models` serves the project's own.

    Args:
        models: the project's model repository.
        checkpoint: what is served; a ControlNet by its folder's name.
        adapters: the folder of LoRAs.
        profiles: the sizes that plans were built for: they bound those of requests, and the first is the default.
        layout: where the plans are, and where the repository goes.
        begin: opens the activity.
        engine: what runs every network; `tensorrt` alone needs plans.
        placement: where each model runs, as `check_placement` let it pass; without one Triton chooses.

    Raises:
        InvalidArgument: a plan is missing; the repository would take the place of `models`.
    """
    if layout.model_repository.resolve() == models.resolve():
        raise InvalidArgument(f"{models} is what the repository is made from; another folder for it is needed")
    with begin("writing the model repository") as progress:
        runner = {"engine": engine}
        if engine == TENSORRT:
            for name in checkpoint.subjects():
                read_plan_record(layout.plan(name).with_suffix(".json"))
            runner["plans"] = str(layout.plans.resolve())
        shutil.rmtree(layout.model_repository, ignore_errors=True)
        for file in sorted(models.glob("*/config.pbtxt")):
            name = file.parent.name
            if name.startswith(CONTROLNET):
                continue
            config = text_format.Parse(file.read_text(), ModelConfig())
            if "pipeline" in config.parameters:
                _configure(config, checkpoint, adapters, profiles, runner)
                if placement:
                    _place(config, placement)
            elif placement and name == STREAM:  # whose instances pass one request on at a time
                config.instance_group[0].count = len(placement.lanes)
            _write(config, layout.model_repository / name)
            progress.update(name)
        resident = [folder for folder in checkpoint.controlnets if placement and folder.name in placement.resident]
        if resident:
            _host(layout, resident)
        for folder in checkpoint.controlnets:
            if folder in resident:
                continue
            models_of = placement.controlnet_models(folder.name) if placement else {folder.name: None}
            for model, gpus in models_of.items():
                config = ModelConfig(backend="controlnet")
                _set(config, controlnet=folder.resolve(), **runner)
                if model != folder.name:
                    _set(config, name=folder.name)
                if gpus is not None:
                    write_instance_groups(config, {"": gpus})
                _write(config, layout.model_repository / f"{CONTROLNET}{model}")
            progress.update(folder.name)


def _configure(
    config: ModelConfig,
    checkpoint: Checkpoint,
    adapters: Path,
    profiles: Sequence[Profile],
    runner: Mapping[str, str],
) -> None:
    for parameter in OWN_PARAMETERS:
        config.parameters.pop(parameter, None)
    _set(config, pipeline=checkpoint.pipeline.resolve())
    if "adapters" in config.parameters:
        _set(config, adapters=adapters.resolve())
    if config.backend != "adapters":  # which only reads files
        _set(config, **runner)
    size_max = max(max(profile.high.height, profile.high.width) for profile in profiles)
    if config.backend == "vae":
        _set(config, size_max=size_max)
    if config.backend == "diffusion":
        best = profiles[0].best
        _set(
            config,
            width=best.width,
            height=best.height,
            size_min=min(min(profile.low.height, profile.low.width) for profile in profiles),
            size_max=size_max,
        )


def _place(config: ModelConfig, placement: ServerPlacement) -> None:
    groups = {
        "diffusion": {name: gpus[:1] for name, gpus in placement.lanes.items()},
        "text_encoder": {"": placement.text_encoder},
        "vae": {"": placement.vae_decoder},
    }
    if config.backend in groups:
        write_instance_groups(config, groups[config.backend])
    pairs = [f"cuda:{gpus[0]}=cuda:{gpus[1]}" for gpus in placement.lanes.values() if len(gpus) > 1]
    if pairs and config.backend == "diffusion":
        _set(config, second_gpu=", ".join(pairs))


def _host(layout: Layout, controlnets: Sequence[Path]) -> None:
    """Have the lanes run these ControlNets themselves, from a folder of links to theirs."""
    shutil.rmtree(layout.controlnets, ignore_errors=True)
    layout.controlnets.mkdir(parents=True)
    for folder in controlnets:
        (layout.controlnets / folder.name).symlink_to(folder.resolve())
    file = layout.model_repository / LANE / "config.pbtxt"
    config = text_format.Parse(file.read_text(), ModelConfig())
    _set(
        config, controlnets=layout.controlnets.resolve(), controlnets_pinned=", ".join(one.name for one in controlnets)
    )
    file.write_text(text_format.MessageToString(config))


def _set(config: ModelConfig, **parameters: object) -> None:
    for name, value in parameters.items():
        config.parameters[name].string_value = str(value)


def _write(config: ModelConfig, folder: Path) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
