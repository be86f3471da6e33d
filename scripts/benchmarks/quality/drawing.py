"""Drawing the subjects: by stock diffusers in this process, and through a server for each way."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.loras.studio import Studio
from benchmarks.quality.subjects import GUIDANCE, LORA_SCALE, SIDE, Picture, Subject
from benchmarks.quality.variants import Variant
from benchmarks.serving.checkpoints import ServedCheckpoint
from benchmarks.serving.client import ask_in_turn
from benchmarks.serving.deployment import serve_repository
from benchmarks.serving.pipelines.stock import StockDiffusers
from benchmarks.serving.repositories import place_ours, write_ours
from benchmarks.serving.systems import MODELS, OURS
from launch.problems import LaunchError
from launch.progress import Progress
from shapes.adapters import ADAPTERS
from shapes.checkpoint import controlnet_folder, lora_file, pipeline_folder
from swiftdiffusion.denoising.noise import draw_noise
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.networks.vae_decoder import read_latent_extent
from swiftdiffusion.placement import choose_placement
from swiftdiffusion.request.limits import Limits
from swiftdiffusion.request.parse import parse_request
from swiftdiffusion_build.placement.gpus import find_gpus

Subjects = Mapping[str, Sequence[Subject]]
Drawn = dict[str, list[Picture]]
LORAS = lora_file("night").parent


def draw_reference(subjects: Subjects, number_type: str, progress: Progress) -> Drawn:
    """Draw all sets by stock diffusers, on the first GPU if there is one; `number_type` is ``fp32`` or ``fp16``.

    Both begin with the noise that fp32 draws: with fp16's own, the pictures would be others.
    """
    torch.backends.cudnn.allow_tf32 = False  # fp32 is to mean it
    place = choose_placement("auto", number_type, "MODEL", 0)
    pipeline = StockDiffusers(pipeline_folder(), {"edges": controlnet_folder("edges")}, LORAS, place)
    channels, scale = read_latent_extent(pipeline_folder())
    limits = Limits(size_min=SIDE, width=SIDE, height=SIDE)
    drawn: Drawn = {}
    for kind, members in subjects.items():
        drawn[kind] = []
        for subject in members:
            progress.update(f"{number_type}, {kind}, {len(drawn[kind]) + 1} of {len(members)}")
            tensors = {name: _to_array(values) for name, values in subject.request.items()}
            request = parse_request(tensors, limits, lambda wanted: pipeline.controlnet_names)
            generator = torch.Generator("cpu").manual_seed(request.seed)
            noise = draw_noise(generator, channels, SIDE // scale, SIDE // scale)
            drawn[kind].append(pipeline.draw(request, Stopwatch(), noise.to(place.device, place.dtype)))
    return drawn


def draw_late(subjects: Sequence[Subject], step: int, steps: int) -> list[Picture]:
    """Draw pictures whose LoRA is in the UNet from `step` on, in this process: a server's come when they come.

    On a GPU in fp16 with fused kernels, else in fp32.
    """
    studio = Studio(pipeline_folder(), LORAS, steps, GUIDANCE, SIDE)
    try:
        return [
            studio.draw(one.request["prompt"], one.request["seed"], studio.load(one.style, LORA_SCALE), step)[0]
            for one in subjects
        ]
    finally:
        studio.close()


def draw_variants(
    variants: Sequence[Variant], subjects: Subjects, progress: Progress
) -> Iterator[tuple[Variant, Drawn | str]]:
    """Draw the sets of each variant, all of one server, through it; what fails gives a sentence instead."""
    controlnets = (controlnet_folder("edges"),)
    loras = tuple(lora_file(name) for name in ADAPTERS)
    checkpoint = ServedCheckpoint("shapes", pipeline_folder(), controlnets, loras, SIDE, GUIDANCE)
    tuning, layout = variants[0].tuning, variants[0].layout
    left = list(variants)
    with tempfile.TemporaryDirectory(prefix="quality-") as scratch:
        try:
            gpus = find_gpus()[: layout.gpus]
            placement = place_ours(checkpoint, None, gpus, "auto", layout.split_guidance, layout.resident)
            repository = write_ours(checkpoint, LORAS, Path(scratch), "auto", placement, tuning, progress)
            with serve_repository(repository, "quality", progress) as server:
                while left:
                    progress.update(left[0].label)
                    drawn = {kind: _ask(server.grpc_url, subjects[kind], left[0].bound) for kind in left[0].sets}
                    yield left.pop(0), drawn
        except LaunchError as problem:
            yield from ((variant, str(problem)) for variant in left)


def _ask(url: str, subjects: Sequence[Subject], bound: int) -> list[Picture]:
    bounded = [{**subject.request, "lora_bound": [bound]} for subject in subjects]
    pictures = []
    for reply in ask_in_turn(url, MODELS[OURS], bounded):
        if reply.failure or reply.pixels is None:
            raise LaunchError(f"a request failed: {reply.failure}")
        pictures.append(reply.pixels)
    return pictures


def _to_array(values: list[Any]) -> Any:
    """As a model gets them: texts as bytes objects."""
    if isinstance(values[0], str):
        return np.array([value.encode() for value in values], object)
    return np.array(values, object if isinstance(values[0], bytes) else None)
