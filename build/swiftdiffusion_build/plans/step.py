"""The steps `parse` and `engines`: what TensorRT makes of the ONNX files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from swiftdiffusion.engines.tensorrt.library import TensorRt
from swiftdiffusion.engines.tensorrt.records import (
    PlanRecord,
    Profile,
    read_graph_record,
    read_plan_record,
    write_record,
)
from swiftdiffusion.errors import InvalidArgument, Unavailable
from swiftdiffusion_build.export.specification import flatten
from swiftdiffusion_build.export.subjects import Subject
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.plans.building import build, parse
from swiftdiffusion_build.plans.profiles import adapt
from swiftdiffusion_build.progress import Begin


def parse_networks(subjects: Iterable[Subject], layout: Layout, library: TensorRt, begin: Begin) -> None:
    """Parse the ONNX file of each subject, and build nothing: that needs no GPU.

    Raises:
        InvalidArgument: a file is missing.
        Internal: as `building.parse`.
    """
    for subject in subjects:
        with begin(f"parsing {subject.name} by {library.kind} {library.version}") as progress:
            path = layout.graph(subject.name)
            record = read_graph_record(path.with_suffix(".json"))
            parse(library, path, record)
            progress.conclude(f"{record.operators} plugins, {len(record.layers)} weights to refit")


def build_plans(
    subjects: Iterable[Subject],
    layout: Layout,
    library: TensorRt,
    profiles: Sequence[Profile],
    pixels_per_latent: int,
    begin: Begin,
) -> None:
    """Build the plan of each subject for torch's current GPU, but for those that are up to date.

    Raises:
        Unavailable: there is no GPU, or none for this TensorRT.
        InvalidArgument: an ONNX file is missing, or as `profiles.adapt`.
        Internal: as `building.parse` and `building.build`.
    """
    gpu = find_gpu(library)
    layout.plans.mkdir(parents=True, exist_ok=True)
    for subject in subjects:
        with begin(f"building {subject.name} by {library.kind} {library.version}") as progress:
            graph_path, plan_path = layout.graph(subject.name), layout.plan(subject.name)
            graph = read_graph_record(graph_path.with_suffix(".json"))
            record = PlanRecord(
                graph=graph,
                tensorrt=f"{library.kind} {library.version}",
                gpu=gpu,
                profiles=adapt(profiles, subject, pixels_per_latent),
                refittable=graph.layers if layout.refittable else (),
            )
            record_path = plan_path.with_suffix(".json")
            if plan_path.exists() and _read(record_path) == record:
                progress.conclude("up to date")
                continue
            record_path.unlink(missing_ok=True)
            plan = build(
                library,
                parse(library, graph_path, graph),
                flatten(subject.inputs),
                record.profiles,
                progress,
                refittable=bool(record.refittable),
            )
            plan_path.write_bytes(plan)
            write_record(record_path, record)


def find_gpu(library: TensorRt) -> str:
    """The name of torch's current GPU; raises `Unavailable` where there is none, or none for this TensorRT."""
    if not torch.cuda.is_available():
        raise Unavailable(
            f"{library.kind} builds plans for the GPU that is here, and torch sees none; "
            "the steps `scripts/build export parse` need none"
        )
    device = torch.device("cuda", torch.cuda.current_device())
    library.require_gpu(device)
    return torch.cuda.get_device_name(device)


def _read(path: Path) -> PlanRecord | None:
    try:
        return read_plan_record(path)
    except InvalidArgument:
        return None
