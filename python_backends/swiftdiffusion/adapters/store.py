"""Where LoRA files live, and how a name in a request becomes one of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swiftdiffusion.adapters.safetensors_file import Header
from swiftdiffusion.errors import InvalidArgument, NotFound, shorten

SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAMES_SHOWN = 16


@dataclass(frozen=True)
class AdapterFile:
    """One file of the store as it was when it was found; equal only while the file is unchanged.

    `location` is a path or an address, `size` is in bytes. `version` is what tells the file from an
    older or a newer one: a folder's modification time and inode, a server's entity tag and the like.
    """

    name: str
    location: str
    size: int
    version: str


class AdapterStore(Protocol):
    """What a folder and a server of LoRA files have in common. Thread-safe."""

    def names(self) -> list[str]:
        """Sort the names that `find` would find now; raises `Unavailable` if the store cannot be listed."""

    def find(self, name: str) -> AdapterFile:
        """Look `name` up.

        Raises `InvalidArgument` for what is no name, only the name of a pickle, or a file that is too
        large, `NotFound` with some of the names that there are, `Unavailable` if the store cannot be asked.
        """

    def read_header(self, file: AdapterFile) -> Header:
        """Read what comes before the tensors; raises as `safetensors_file.read_header`, and `Unavailable`."""

    def fetch(self, file: AdapterFile) -> Path:
        """Give a path under which the file can be read now, whole; raises `NotFound`, `Unavailable` or `OSError`."""

    def read_ahead(self, file: AdapterFile) -> None:
        """Have the disk begin to read what `fetch` will give, where that is here; does not wait for it, nor raise."""

    def read_note(self, file: AdapterFile, suffix: str, limit: int) -> bytes | None:
        """Read at most `limit` bytes of the file ``<name><suffix>`` beside it; None where it is not there."""

    def is_current(self, file: AdapterFile) -> bool:
        """Whether what `fetch` gave is still this very file."""

    def close(self) -> None:
        """Ask for nothing more: what is being fetched fails soon, with `Unavailable`. Waits for nothing."""


def check_name(name: str) -> None:
    """Raise `InvalidArgument` for what is no name; names are compared with listings and never joined to paths."""
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidArgument(
            f"LoRA name {shorten(name)} is not a name: allowed: 1 to 128 letters, digits, '.', '_', '-', "
            "a letter or a digit first."
        )


def list_names(files: Collection[str]) -> list[str]:
    """The names among the names of files, sorted."""
    names = (file.removesuffix(SUFFIX) for file in files if file.endswith(SUFFIX))
    return sorted(name for name in names if NAME_PATTERN.fullmatch(name))


def refuse_pickles(name: str, files: Collection[str]) -> None:
    """Raise `InvalidArgument` where there is a pickle of that name."""
    pickle = next((name + suffix for suffix in PICKLE_SUFFIXES if name + suffix in files), None)
    if pickle is not None:
        raise InvalidArgument(
            f"LoRA {name!r} is stored as {pickle!r}, a pickle, which can run code when it is read: "
            "only .safetensors files are served."
        )


def describe_unknown(name: str, names: Sequence[str]) -> NotFound:
    """Say what there is instead."""
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return NotFound(f"LoRA {name!r} is not in the adapter store, which has: {shown}{more}.")


def check_size(name: str, size: int, limit: int) -> None:
    """Raise `InvalidArgument` for a file of more than `limit` bytes."""
    if size > limit:
        raise InvalidArgument(f"LoRA {name!r} has {size / 2**20:.0f} MiB; at most {limit / 2**20:.0f} are allowed.")
