"""Segments of shared memory that stubs of the Python backend leave behind when they die.

A server that has noticed such a death keeps the segment mapped, and its name, until it ends itself (tritonserver 2.51).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from pathlib import Path

from swiftdiffusion.triton_bridge.stubs import PROC, list_children, read_arguments

SHARED_MEMORY = Path("/dev/shm")
_MAPPED = re.compile(rf"{SHARED_MEMORY}/(\S+)$", re.MULTILINE)


def find_orphans(server: int) -> set[Path]:
    """The segments that a server has open and that belong to none of its stubs; raises nothing."""
    used = set()
    for child in list_children(server):
        with contextlib.suppress(OSError):
            used |= set(read_arguments(child))  # a stub is told its segment's name
    try:
        mapped = set(_MAPPED.findall((PROC / str(server) / "maps").read_text()))
    except OSError:
        return set()
    return {path for name in mapped - used if (path := SHARED_MEMORY / name).exists()}


def free(segment: Path) -> None:
    """Give its memory back and remove its name; the server, which will not look at it again, then sees zeros."""
    with contextlib.suppress(OSError):
        file = os.open(segment, os.O_RDWR)
        try:
            with mmap.mmap(file, 0) as memory:
                memory.madvise(mmap.MADV_REMOVE)
        finally:
            os.close(file)
        segment.unlink()
