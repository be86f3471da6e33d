"""A server that one call holds and others with the same GPUs measure, as a file in their folder tells them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.checkpoints import FreshAdapters, ServedCheckpoint
from benchmarks.serving.served import Served
from launch.problems import LaunchError
from launch.server import is_ready


@contextmanager
def announced(out: Path, system: str, checkpoint: ServedCheckpoint, served: Served) -> Iterator[None]:
    """Tell others of a server while the block lasts."""
    file = _name_file(out, system)
    out.mkdir(parents=True, exist_ok=True)
    told = {
        "checkpoint": checkpoint.name,
        "http_url": served.http_url,
        "grpc_url": served.grpc_url,
        "adapters": str(served.adapters.folder),
    }
    file.write_text(json.dumps(told, indent=2) + "\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def find_held(out: Path, system: str, checkpoint: ServedCheckpoint) -> Served:
    """The server that is told of; raises LaunchError where there is none, or of another checkpoint."""
    file = _name_file(out, system)
    if not file.exists():
        raise LaunchError(
            f"--held, but there is no {file}: start `scripts/benchmark hold {system}` with the same --out "
            "(and CUDA_VISIBLE_DEVICES, where that is set)."
        )
    told = json.loads(file.read_text())
    if not is_ready(told["http_url"]):
        raise LaunchError(f"--held, but the server of {file} does not answer: start `scripts/benchmark hold {system}`.")
    if told["checkpoint"] != checkpoint.name:
        raise LaunchError(f"--held, but the server of {file} serves {told['checkpoint']}, not {checkpoint.name}.")
    adapters = FreshAdapters(checkpoint.lora_files, Path(told["adapters"]))
    return Served(told["http_url"], told["grpc_url"], adapters)


def _name_file(out: Path, system: str) -> Path:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return out / ("-".join(["held", system, *re.findall(r"\w+", gpus or "")]) + ".json")
