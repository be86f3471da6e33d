"""The processes of a tritonserver's Python models, called stubs, as Linux's /proc shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
STUB = "triton_python_backend_stub"
STOPPED = ("T", "t", "Z")  # by a signal, by a debugger, for ever: states in /proc/PID/stat


def list_children(parent: int) -> Iterator[int]:
    """The processes that `parent` started and that have not been waited for."""
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if int(read_status(int(folder.name))[1]) == parent:
                yield int(folder.name)


def read_status(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent, … start; raises OSError."""
    return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()


def read_arguments(process: int) -> list[str]:
    """The command line; nothing of a process that has ended. Raises OSError."""
    return [part for part in (PROC / str(process) / "cmdline").read_text(errors="replace").split("\0") if part]
