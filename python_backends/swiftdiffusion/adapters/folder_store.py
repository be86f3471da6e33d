"""LoRA files in a local folder."""

import os
import stat
from pathlib import Path

from swiftdiffusion.adapters.page_cache import read_ahead
from swiftdiffusion.adapters.safetensors_file import Header, read_header
from swiftdiffusion.adapters.store import (
    SUFFIX,
    AdapterFile,
    check_name,
    check_size,
    describe_unknown,
    list_names,
    refuse_pickles,
)
from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable


class FolderStore:
    """Every ``<name>.safetensors`` in one folder, looked up anew each time. Thread-safe.

    A folder of thousands takes milliseconds to list, so that is done only for names that the last listing had not, or
    whose file is gone. A path always comes from a listing.

    Links are followed, wherever they lead: model hubs and mounted volumes lay folders out as links,
    only the folder's owner can make one, and what it leads to must still be a LoRA that fits to have
    any effect. What isn't a plain file (a device, a pipe) is ignored.
    """

    def __init__(self, folder: Path, size_limit: int = 2**40) -> None:
        """Args: the folder, and how many bytes a file may have; raises `InvalidArgument` for what is no folder."""
        if not folder.is_dir():
            raise InvalidArgument(f"LoRA folder {str(folder)!r} is not a folder that can be read.")
        self._folder = folder
        self._size_limit = size_limit
        self._paths: dict[str, str] = {}  # by the files' names, of the last listing

    def names(self) -> list[str]:
        """See `AdapterStore`."""
        listing = self._list()
        return [name for name in list_names(listing) if listing[name + SUFFIX].is_file()]

    def find(self, name: str) -> AdapterFile:
        """See `AdapterStore`."""
        check_name(name)
        file = self._find_listed(name)
        if file is None:
            listing = self._list()
            file = self._find_listed(name)
            if file is None:
                refuse_pickles(name, listing)
                raise self._unknown(name)
        check_size(name, file.size, self._size_limit)
        return file

    def read_header(self, file: AdapterFile) -> Header:
        """See `AdapterStore`."""
        return read_header(Path(file.location))

    def fetch(self, file: AdapterFile) -> Path:
        """See `AdapterStore`."""
        return Path(file.location)

    def read_ahead(self, file: AdapterFile) -> None:
        """See `AdapterStore`."""
        read_ahead(Path(file.location))

    def read_note(self, file: AdapterFile, suffix: str, limit: int) -> bytes | None:
        """See `AdapterStore`."""
        path = Path(file.location.removesuffix(SUFFIX) + suffix)
        try:
            if not path.is_file():  # who opens a pipe waits until somebody writes to it
                return None
            with path.open("rb") as note:
                return note.read(limit)
        except OSError:
            return None

    def is_current(self, file: AdapterFile) -> bool:
        """See `AdapterStore`."""
        try:
            return _describe(file.name, Path(file.location)) == file
        except OSError:
            return False

    def close(self) -> None:
        """Nothing is held."""

    def _list(self) -> dict[str, os.DirEntry[str]]:
        try:
            with os.scandir(self._folder) as entries:
                listing = {entry.name: entry for entry in entries}
        except OSError as error:
            raise Unavailable(f"The LoRA folder cannot be listed: {error.strerror}.") from error
        self._paths = {name: entry.path for name, entry in listing.items()}
        return listing

    def _find_listed(self, name: str) -> AdapterFile | None:
        path = self._paths.get(name + SUFFIX)
        try:
            return None if path is None else _describe(name, Path(path))
        except OSError:  # it vanished since, or is a link to nothing
            return None

    def _unknown(self, name: str) -> NotFound:
        return describe_unknown(name, self.names())


def _describe(name: str, path: Path) -> AdapterFile | None:
    """The file as it is now, None for what is no plain file.

    The inode tells a replaced file from the old one even where a copy kept the old time.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return None
    return AdapterFile(name, str(path), found.st_size, f"{found.st_mtime_ns} {found.st_ino}")
