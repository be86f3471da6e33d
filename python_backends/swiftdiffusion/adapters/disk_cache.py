"""Files from elsewhere on the local disk: bounded in bytes, least recently used first out, shared by processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from filelock import FileLock

SUFFIX = ".safetensors"
PART_SUFFIX = ".part"
ROOM_S = 10.0  # making room takes milliseconds: who is not done by then has been stopped
ABANDONED_S = 3600.0  # a part that nobody has written to for so long belongs to a process that died


class DiskCache:
    """A folder of files named by what they are copies of.

    A file is written beside its place and moved there when it is whole, so whatever lies in its place
    is whole. One process fetches a file, others that want it wait. The time of last use is the file's
    modification time. A reader that has a file open keeps it, also when it is dropped meanwhile.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        """Args: the folder, made where there is none, and how many bytes it may hold.

        Raises `OSError` if the folder cannot be made.
        """
        self._folder = folder
        self._limit = limit
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, identity: str) -> Path | None:
        """The copy of what `identity` names, counted as used now; None where there is none."""
        path = self._place(identity)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def get(self, identity: str, size: int, fetch: Callable[[BinaryIO], None], timeout_s: float) -> Path:
        """The copy, fetched first where there is none.

        Args:
            identity: names the file and its version.
            size: in bytes; room is made for it.
            fetch: writes the whole file, or raises.
            timeout_s: how long to wait for another process that is fetching it.

        Raises:
            filelock.Timeout: the other process is not done in time, or one has made room for longer than `ROOM_S`.
            OSError: the disk is full, or cannot be written.
        """
        path = self._place(identity)
        with FileLock(path.with_suffix(".lock"), timeout=timeout_s):
            if (found := self.find(identity)) is not None:
                return found
            self._make_room(size)
            with NamedTemporaryFile(dir=self._folder, suffix=PART_SUFFIX, delete=False) as part:
                try:
                    fetch(part)  # type: ignore[arg-type]  # it wraps a file, and is one in all but its class
                    part.flush()
                    Path(part.name).replace(path)
                finally:
                    Path(part.name).unlink(missing_ok=True)
            return path

    @property
    def nbytes(self) -> int:
        """Bytes of the whole files now."""
        return sum(size for _, size, _ in self._entries())

    def _make_room(self, size: int) -> None:
        with FileLock(self._folder / "room.lock", timeout=ROOM_S):
            entries = sorted(self._entries())
            held = sum(held_size for _, held_size, _ in entries)
            for _, held_size, path in entries:
                if held + size <= self._limit:
                    break
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
                held -= held_size
            self._drop_abandoned_parts()

    def _entries(self) -> list[tuple[float, int, Path]]:
        """Time of last use, size and path of each whole file."""
        entries = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # another process dropped it
                found = path.stat()
                entries.append((found.st_mtime, found.st_size, path))
        return entries

    def _drop_abandoned_parts(self) -> None:
        for part in self._folder.glob(f"*{PART_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - ABANDONED_S:
                    part.unlink()

    def _place(self, identity: str) -> Path:
        return self._folder / (hashlib.sha256(identity.encode()).hexdigest()[:32] + SUFFIX)
