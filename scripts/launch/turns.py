"""Turns of scripts that share a file or a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from launch.progress import Progress


@contextmanager
def one_at_a_time(path: Path, waiting: str = "") -> Iterator[None]:
    """Let only one script into such a block of the same file or folder; the kernel drops a dead one's lock.

    `waiting` is shown while another has it; nothing if it is empty.
    """
    opened = os.open(path, os.O_RDONLY)  # the lock is its own: a lock file would stay behind
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with Progress(waiting) if waiting else nullcontext():
                fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
