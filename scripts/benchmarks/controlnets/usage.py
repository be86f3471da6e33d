"""What servers that this process started hold: memory of the GPUs, of /dev/shm and of their processes, and threads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.controlnets.processes import find_descendants, is_server, read_held, read_model

SHARED_MEMORY = Path("/dev/shm")
QUERY = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
MEBIBYTE = 2**20


class Usage(NamedTuple):
    """At one moment; memory in MiB, that of processes without files and shared memory."""

    gpus_mib: float | None  # of all GPUs, whatever uses it; None where there is none
    shared_mib: float  # in /dev/shm
    server_mib: float  # tritonserver's
    server_threads: int
    models_mib: float  # the models' processes', all together
    models_threads: int


KINDS = Usage._fields


def read_usage(but: str = "") -> Usage:
    """As it is now; without the processes of the model `but`."""
    prefix = f"swiftdiffusion_{os.getpid()}_"  # as `Server` has Triton call its regions
    shared = 0
    for file in SHARED_MEMORY.glob(f"{prefix}*"):
        with suppress(OSError):
            shared += file.stat().st_blocks * 512
    held = {"server": np.zeros(2, np.int64), "models": np.zeros(2, np.int64)}
    for process in find_descendants(os.getpid()):
        model = read_model(process)
        if is_server(process) or (model and model != but):
            held["models" if model else "server"] += read_held(process)
    (server, server_threads), (models, models_threads) = (each.tolist() for each in held.values())
    return Usage(
        _read_gpus(),
        round(shared / MEBIBYTE, 2),
        round(server / MEBIBYTE, 2),
        server_threads,
        round(models / MEBIBYTE, 1),
        models_threads,
    )


def describe_growth(usages: Sequence[Usage]) -> dict[str, Any]:
    """The series of each kind, and how far the straight line through its second half rises.

    What processes hold goes up and down, so that two of its values say little, and in the beginning what they keep
    grows; what leaks rises all the time.
    """
    described: dict[str, Any] = {}
    for place, kind in enumerate(KINDS):
        series = [usage[place] for usage in usages]
        known = [value for value in series if value is not None]
        described[kind] = series
        described[f"{kind}_growth"] = round(_rise(known[len(known) // 2 :]), 2) + 0.0 if known else None  # and no -0.0
    return described


def _rise(series: Sequence[float]) -> float:
    if len(series) < 2:
        return 0.0
    slope, _ = np.polyfit(np.arange(len(series)), series, 1)
    return float(slope) * (len(series) - 1)


def _read_gpus() -> float | None:
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return float(sum(int(line) for line in answer.split()))
