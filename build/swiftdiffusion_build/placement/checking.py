"""Whether a checkpoint can be served as a placement says, on the GPUs that there are."""

from __future__ import annotations

from collections.abc import Sequence

from swiftdiffusion.errors import InvalidArgument, shorten
from swiftdiffusion_build.placement.footprints import Footprints
from swiftdiffusion_build.placement.gpus import GIB, Gpu
from swiftdiffusion_build.placement.server_placement import CPU, ServerPlacement

GPU_ENGINES = ("cuda_graph", "tensorrt")  # which have no way of running on a CPU


def check_placement(placement: ServerPlacement, footprints: Footprints, gpus: Sequence[Gpu], engine: str) -> None:
    """Refuse what cannot work.

    Args:
        placement: what is wanted.
        footprints: of the checkpoint's models; they say which ControlNets there are.
        gpus: of the machine that will serve.
        engine: that of every model.

    Raises:
        InvalidArgument: a ControlNet that the checkpoint has not, or one without a place; an engine that needs a GPU
            for a model on the CPU; a GPU that is not there, or has too little memory.
    """
    _check_controlnets(placement, footprints)
    for entry, numbers in placement.entries().items():
        if numbers == CPU and engine in GPU_ENGINES:
            raise InvalidArgument(
                f"{entry} is on the CPU, where the engine {engine} does not run; allowed: a GPU, or the engine auto"
            )
        for number in numbers:
            if number >= len(gpus):
                there = f"{len(gpus)}, numbered from 0" if gpus else "none"
                raise InvalidArgument(f"{entry} names GPU {number}; there are {there} (--gpus describes others)")
    for number, gpu in enumerate(gpus):
        _check_memory(placement, footprints, number, gpu)


def _check_controlnets(placement: ServerPlacement, footprints: Footprints) -> None:
    known, placed = footprints.controlnets.keys(), {*placement.controlnets, *placement.resident}
    if unknown := sorted(placed - known):
        there = ", ".join(sorted(known)) or "none"
        raise InvalidArgument(f"controlnets has {shorten(unknown[0])}, which is not in the checkpoint; there: {there}")
    if missing := sorted(known - placed):
        raise InvalidArgument(f"controlnets has no {missing[0]!r}; each that is served needs a place")


def _check_memory(placement: ServerPlacement, footprints: Footprints, number: int, gpu: Gpu) -> None:
    needs = {entry: footprints.of(entry) for entry, numbers in placement.entries().items() if number in numbers}
    if sum(needs.values()) > gpu.memory:
        parts = ", ".join(f"{entry} {need / GIB:.2f}" for entry, need in needs.items())
        raise InvalidArgument(
            f"GPU {number} has {gpu.memory / GIB:.2f} GiB, and what is placed on it needs "
            f"{sum(needs.values()) / GIB:.2f} for weights and processes alone: {parts}"
        )
