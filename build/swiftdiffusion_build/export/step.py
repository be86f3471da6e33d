"""The step `export`: every network to an ONNX file with its record."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir

from swiftdiffusion.adapters.targets import is_layer
from swiftdiffusion.engines.tensorrt.records import (
    GraphRecord,
    digest_configuration,
    digest_weights,
    read_graph_record,
    write_record,
)
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.network import Network
from swiftdiffusion_build.export.specification import flatten
from swiftdiffusion_build.export.subjects import Subject
from swiftdiffusion_build.export.tracing import trace
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.progress import Begin

FORMAT = "1"  # of the files: raise it where the same weights and configuration shall give another graph
PACKAGES = ("torch", "diffusers", "transformers", "onnxscript")  # which have a say in the graph
ONE_FILE_BYTES = 1_900_000_000  # an ONNX file is a protobuf message, of 2 GB at most


def export_networks(subjects: Iterable[Subject], layout: Layout, begin: Begin) -> None:
    """Write the ONNX file and the record of each subject, but for those that are up to date.

    Raises:
        Internal: a parameter was lost on the way.
    """
    for subject in subjects:
        with begin(f"exporting {subject.name}") as progress:
            progress.update("reading")
            network = subject.load()
            path = layout.graph(subject.name)
            weights = network.weights()
            layers = tuple(name for name, weight in weights.items() if is_layer(name, tuple(weight.shape)))
            origin = find_origin(network, subject)
            if is_current(path, origin):
                progress.conclude("up to date")
                continue
            progress.update("tracing")
            traced = trace(network, subject)
            progress.update("writing")
            save(traced.model, path)
            record = GraphRecord(
                network=subject.name,
                **origin,
                inputs=tuple(flatten(subject.inputs)),
                outputs=subject.outputs,
                transposed=traced.transposed,
                layers=layers if subject.takes_loras else (),
                operators=traced.operators,
            )
            write_record(path.with_suffix(".json"), record)
        del network, weights, traced
        gc.collect()  # an exported program refers to itself, and the next network wants the memory


def find_origin(network: Network, subject: Subject) -> dict[str, Any]:
    """All that has a say in what an ONNX file holds, as `GraphRecord` has it."""
    return {
        "weights": digest_weights(network.weights()),
        "configuration": digest_configuration(network.configuration),
        "versions": {"format": FORMAT, **{package: version(package) for package in PACKAGES}},
        "dtype": str(subject.dtype).removeprefix("torch."),
    }


def is_current(path: Path, origin: Mapping[str, Any]) -> bool:
    """Whether an ONNX file is there and comes from just that."""
    try:
        record = read_graph_record(path.with_suffix(".json"))
    except InvalidArgument:
        return False
    return path.exists() and all(getattr(record, name) == value for name, value in origin.items())


def save(model: onnx_ir.Model, path: Path) -> None:
    """Write a model, its weights beside it where they are too much for one file.

    The record of an older one goes first, so that half a file has none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".weights")
    for stale in (path.with_suffix(".json"), path, beside):
        stale.unlink(missing_ok=True)
    weights = (value.const_value for value in model.graph.initializers.values())
    size = sum(weight.nbytes for weight in weights if weight is not None)
    onnx_ir.save(model, path, external_data=beside.name if size > ONE_FILE_BYTES else None)
