"""What memory is in use: the GPUs', /dev/shm's and the server's processes'."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.controlnets.processes import find_descendants, read_memory

SHARED_MEMORY = Path("/dev/shm")
QUERY = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
MEBIBYTE = 2**20


class Usage(NamedTuple):
    """Memory in MiB."""

    gpus: float | None  # of all of them, whatever uses it; None where there is none
    shared: float  # of servers that this process started, in /dev/shm
    host: float  # of this process's descendants, which are its servers


def read_usage() -> Usage:
    """As it is now."""
    prefix = f"swiftdiffusion_{os.getpid()}_"  # as `Server` has Triton call its regions
    shared = 0
    for file in SHARED_MEMORY.glob(f"{prefix}*"):
        with suppress(OSError):
            shared += file.stat().st_blocks * 512
    host = sum(read_memory(process) for process in find_descendants(os.getpid()))
    return Usage(_read_gpus(), round(shared / MEBIBYTE, 2), round(host / MEBIBYTE, 1))


def describe_growth(usages: Sequence[Usage], since: int) -> dict[str, Any]:
    """The series by kind of memory, and how far the last is above the one numbered `since`, in MiB."""
    described: dict[str, Any] = {}
    for place, kind in enumerate(Usage._fields):
        series = [usage[place] for usage in usages]
        described[f"{kind}_mib"] = series
        first, last = series[min(since, len(series) - 1)], series[-1]
        described[f"{kind}_growth_mib"] = None if first is None or last is None else round(last - first, 2)
    return described


def _read_gpus() -> float | None:
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return float(sum(int(line) for line in answer.split()))
