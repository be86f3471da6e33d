"""What every benchmark's JSON file begins with, and how it is written."""

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from launch.paths import CHECKOUT

FOLDERS = ("--out", "--checkpoint-folder")
PACKAGES = ("torch", "triton", "diffusers", "transformers", "safetensors", "numpy")


def describe_run(benchmark: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Name, date (UTC), command, commit, machine and versions."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "command": shlex.join(["scripts/benchmark", *_leave_out_folders(arguments)]),
        "commit": _ask("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"),
        "machine": describe_machine(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def describe_machine() -> dict[str, Any]:
    """Processor, cores, and the GPUs as the driver names them; which of these this process may use, where not all."""
    gpus = _ask("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    fields = [[field.strip() for field in line.split(",")] for line in (gpus or "").splitlines()]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "cores_in_all": os.cpu_count(),
        "gpus": [{"name": name, "memory": memory, "driver": driver} for name, memory, driver in fields],
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def name_machine(machine: Mapping[str, Any]) -> str:
    """In few words: its GPUs, or its processor where it has none, and what of it was used if not all."""
    gpus = [gpu["name"] for gpu in machine["gpus"]]
    if not gpus:
        return f"no GPU, {machine['processor']}"
    name, used = f"{len(gpus)} × {gpus[0]}", machine.get("visible_gpus")
    if not used or (len(used.split(",")) == len(gpus) and machine["cores"] == machine["cores_in_all"]):
        return name
    return f"{name} (GPU {used} of them, {machine['cores']} of {machine['cores_in_all']} cores)"


def name_host(machine: Mapping[str, Any]) -> str:
    """The whole of a machine in few words, by which figures of like machines are told from those of others."""
    gpus, cores = [gpu["name"] for gpu in machine["gpus"]], machine["cores_in_all"]
    # without the ×, which the plots' font lacks
    return f"{len(gpus)} {gpus[0]}, {cores} cores" if gpus else f"{machine['processor']}, {cores} cores"


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write the JSON file whole or not at all, so that a reader never finds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".json.draft")
    draft.write_text(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    draft.replace(path)


def _leave_out_folders(arguments: Sequence[str]) -> list[str]:
    """Without `FOLDERS`: where files were on that machine changes no figure."""
    kept = [argument for argument in arguments if not argument.startswith(tuple(f"{name}=" for name in FOLDERS))]
    for name in FOLDERS:
        if name in kept:
            place = kept.index(name)
            del kept[place : place + 2]
    return kept


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _ask(*command: str) -> str | None:
    """A program's answer, or None where there is no such program or it has none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
