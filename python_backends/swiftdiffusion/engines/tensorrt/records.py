"""What lies beside an ONNX file and a plan: where it comes from, and how it is fed and refitted.

A record is what a file is stale by: a plan whose record does not fit the weights, the configuration, the GPU or the
TensorRT at hand is an error, never another picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.errors import InvalidArgument

_PROVENANCE = ("transformers_version", "architectures")  # diffusers' own start with an underscore


@dataclass(frozen=True, order=True)
class Size:
    """How many samples, and the picture's size in pixels."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.height}x{self.width}"


@dataclass(frozen=True)
class Profile:
    """The sizes that a plan takes in one of its optimisation profiles; it is fastest at `best`."""

    name: str
    low: Size
    best: Size
    high: Size

    @property
    def is_fixed(self) -> bool:
        """Whether it takes one size alone, for which TensorRT can choose the fastest kernels."""
        return self.low == self.high

    def takes(self, size: Size) -> bool:
        """Whether a size lies in it."""
        ends = zip(astuple(self.low), astuple(size), astuple(self.high), strict=True)
        return all(least <= n <= most for least, n, most in ends)

    @property
    def breadth(self) -> int:
        """How many sizes it takes, counting every pixel."""
        return prod(most - least + 1 for least, most in zip(astuple(self.low), astuple(self.high), strict=True))

    def __str__(self) -> str:
        return f"{self.name} ({self.low if self.is_fixed else f'{self.low} to {self.high}'})"


@dataclass(frozen=True)
class GraphRecord:
    """Of an ONNX file."""

    network: str
    weights: str  # `digest_weights` of the network that was exported
    configuration: str  # `digest_configuration` of it
    versions: Mapping[str, str]  # of the packages that made it, and of its format
    dtype: str  # of the weights: float16, float32
    inputs: tuple[str, ...]  # in the order of ``forward``; of a list ``name.0``, ``name.1``, …
    outputs: tuple[str, ...]
    transposed: tuple[str, ...]  # parameters that the file holds as [in, out]
    layers: tuple[str, ...]  # parameters that LoRAs may change while it is served
    operators: int  # nodes for which there must be a plugin


@dataclass(frozen=True)
class PlanRecord:
    """Of a plan, TensorRT's serialised engine."""

    graph: GraphRecord
    tensorrt: str  # kind and version
    gpu: str  # its name
    profiles: tuple[Profile, ...]
    refittable: tuple[str, ...]


def digest_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes, number types and values (CPU tensors), in hexadecimal."""

    def digest(item: tuple[str, Tensor]) -> bytes:
        name, tensor = item
        sha = hashlib.sha256(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return sha.digest()

    with ThreadPoolExecutor(4) as threads:  # hashlib lets other threads run
        parts = threads.map(digest, sorted(weights.items()))
        return hashlib.sha256(b"".join(parts)).hexdigest()


def digest_configuration(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of a network's configuration, in hexadecimal.

    It decides what weights alone do not: scales, epsilons, activations. What only tells who wrote it and where it lay
    has no part in it.
    """
    own = {key: value for key, value in configuration.items() if not key.startswith("_") and key not in _PROVENANCE}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def write_record(path: Path, record: GraphRecord | PlanRecord) -> None:
    """Write a record as JSON."""
    path.write_text(json.dumps(asdict(record), indent=2) + "\n")


def read_graph_record(path: Path) -> GraphRecord:
    """Read an ONNX file's record; raises `InvalidArgument` where there is none, or one of another version."""
    return _read(path, _graph, "export")


def read_plan_record(path: Path) -> PlanRecord:
    """Read a plan's record; raises as `read_graph_record`."""
    return _read(path, _plan, "engines")


def _read(path: Path, build: Any, step: str) -> Any:
    try:
        return build(json.loads(path.read_text()))
    except OSError:
        raise InvalidArgument(f"{path} is not there; `scripts/build {step}` writes it") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InvalidArgument(f"{path} is not a record of this version; run `scripts/build {step}` anew") from None


def _graph(values: dict[str, Any]) -> GraphRecord:
    for name in ("inputs", "outputs", "transposed", "layers"):
        values[name] = tuple(values[name])
    return GraphRecord(**values)


def _plan(values: dict[str, Any]) -> PlanRecord:
    profiles = tuple(
        Profile(profile["name"], *(Size(**profile[end]) for end in ("low", "best", "high")))
        for profile in values["profiles"]
    )
    graph, refittable = _graph(values["graph"]), tuple(values["refittable"])
    return PlanRecord(graph, values["tensorrt"], values["gpu"], profiles, refittable)
