"""The folder of LoRA files, and how a name in a request becomes one of them."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable, shorten

SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAMES_SHOWN = 16


@dataclass(frozen=True)
class AdapterFile:
    """One file of the store as it was when it was found; equal only while the file is unchanged.

    `size` is in bytes and `modified` in nanoseconds. The inode tells a replaced file from the
    old one even where a copy kept the old time.
    """

    name: str
    path: Path
    size: int
    modified: int
    inode: int


class AdapterStore:
    """Every ``<name>.safetensors`` in one folder, looked up anew each time.

    A name is compared with the folder's listing and never joined to a path. Links are followed,
    wherever they lead: model hubs and mounted volumes lay folders out as links, only the folder's
    owner can make one, and what it leads to must still be a LoRA that fits to have any effect.
    What isn't a plain file (a device, a pipe) is ignored.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InvalidArgument(f"LoRA folder {str(folder)!r} is not a folder that can be read.")
        self._folder = folder

    def names(self) -> list[str]:
        """Sort the names that `find` would find now.

        Raises `Unavailable` if the folder cannot be listed.
        """
        return sorted(
            name
            for entry in self._list().values()
            if (name := entry.name.removesuffix(SUFFIX)) != entry.name
            and NAME_PATTERN.fullmatch(name)
            and entry.is_file()
        )

    def find(self, name: str) -> AdapterFile:
        """Look `name` up in the folder.

        Raises `InvalidArgument` for what is no name, or only the name of a pickle, `NotFound`
        with some of the names that there are, `Unavailable` if the folder cannot be listed.
        """
        if not NAME_PATTERN.fullmatch(name):
            raise InvalidArgument(
                f"LoRA name {shorten(name)} is not a name: allowed: 1 to 128 letters, digits, '.', '_', '-', "
                "a letter or a digit first."
            )
        listing = self._list()
        entry = listing.get(name + SUFFIX)
        if entry is None:
            pickle = next((name + suffix for suffix in PICKLE_SUFFIXES if name + suffix in listing), None)
            if pickle is not None:
                raise InvalidArgument(
                    f"LoRA {name!r} is stored as {pickle!r}, a pickle, which can run code when it is read: "
                    "only .safetensors files are served."
                )
            raise self._unknown(name)
        try:
            found = entry.stat()
        except OSError:  # it vanished between the listing and now, or is a link to nothing
            raise self._unknown(name) from None
        if not stat.S_ISREG(found.st_mode):
            raise self._unknown(name)
        return AdapterFile(name, Path(entry.path), found.st_size, found.st_mtime_ns, found.st_ino)

    def _list(self) -> dict[str, os.DirEntry[str]]:
        try:
            with os.scandir(self._folder) as entries:
                return {entry.name: entry for entry in entries}
        except OSError as error:
            raise Unavailable(f"The LoRA folder cannot be listed: {error.strerror}.") from error

    def _unknown(self, name: str) -> NotFound:
        names = self.names()
        shown = ", ".join(names[:NAMES_SHOWN]) or "none"
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        return NotFound(f"LoRA {name!r} is not in the adapter store, which has: {shown}{more}.")
