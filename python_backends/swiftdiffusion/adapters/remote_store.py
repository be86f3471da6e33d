"""LoRA files on a server: any location that fsspec opens (HTTP, S3, …), copied to the local disk when asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import filelock
import fsspec

from swiftdiffusion.adapters.disk_cache import DiskCache
from swiftdiffusion.adapters.page_cache import read_ahead
from swiftdiffusion.adapters.safetensors_file import Header, parse_header, read_header
from swiftdiffusion.adapters.store import (
    SUFFIX,
    AdapterFile,
    check_name,
    check_size,
    describe_unknown,
    list_names,
    refuse_pickles,
)
from swiftdiffusion.daemon_threads import DaemonThreads
from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable
from swiftdiffusion.waiting import wait_for

CHECKSUM_SUFFIX = SUFFIX + ".sha256"  # beside a file, as sha256sum writes it: checked after each download
VERSION_FIELDS = ("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "LastModified", "Last-Modified", "mtime")
CHUNK = 4 * 2**20  # bytes
DOWNLOAD_S = 300.0  # for a whole file; a request waits for as long as its own configuration says
CALLS = 8  # at a time; those that a dead store never answers hold theirs
FRESH_S = 1.0  # a listing so young needs not be asked for again because of an unknown name
S3 = {"s3", "s3a"}
STREAMED = {"http", "https"}  # not every server of these can send parts of a file

Result = TypeVar("Result")
Entry = dict[str, Any]  # fsspec's description of a file


class RemoteStore:
    """Every ``<name>.safetensors`` directly under one location.

    The listing is remembered for `listing_s`, and asked for anew at an unknown name, so a new file is
    found at once and a changed one soon. A store that does not answer costs one wait of `timeout_s`,
    and for as long again everything that needs it is refused at once; what was listed and copied
    before stays in use.
    """

    def __init__(
        self, location: str, cache: DiskCache, size_limit: int, timeout_s: float = 10.0, listing_s: float = 30.0
    ) -> None:
        """Args: the address, the local copies, a file's most bytes, how long one answer may take.

        Raises `InvalidArgument` for an address that fsspec cannot open.
        """
        protocol = location.partition("://")[0]
        try:
            self._files, self._root = fsspec.url_to_fs(location, **_bound_sockets(protocol, timeout_s))
            if protocol in S3:
                self._files.connect()  # reads all of AWS's interface, for seconds that no answer shall be charged with
        except Exception as error:  # also what only a client of that protocol knows, as of credentials
            raise InvalidArgument(f"The LoRA location {location!r} cannot be opened: {error}") from None
        self._open_options = {"block_size": 0} if protocol in STREAMED else {"block_size": CHUNK}
        self._cache = cache
        self._size_limit = size_limit
        self._timeout_s = timeout_s
        self._listing_s = listing_s
        self._threads = DaemonThreads(CALLS, "adapter-store")
        self._lock = threading.Lock()
        self._listing: dict[str, Entry] | None = None
        self._listed_at = self._failed_at = float("-inf")
        self._described: dict[str, tuple[float, Entry]] = {}
        self._notes: dict[tuple[str, int], bytes] = {}

    def names(self) -> list[str]:
        """See `AdapterStore`."""
        return list_names(self._list(FRESH_S))

    def find(self, name: str) -> AdapterFile:
        """See `AdapterStore`."""
        check_name(name)
        listing = self._list(self._listing_s)
        if name + SUFFIX not in listing:
            listing = self._list(FRESH_S)
        if name + SUFFIX not in listing:
            refuse_pickles(name, listing)
            raise describe_unknown(name, list_names(listing))
        entry = self._describe(listing, name)
        size = entry.get("size")
        if size is None:
            raise Unavailable(f"The adapter store does not tell the size of LoRA {name!r}.")
        check_size(name, size, self._size_limit)
        version = next((str(entry[field]) for field in VERSION_FIELDS if entry.get(field)), "")
        return AdapterFile(name, entry["name"], size, version)

    def read_header(self, file: AdapterFile) -> Header:
        """See `AdapterStore`; where there is no copy yet, no more than the header is asked for."""
        if (path := self._cache.find(_identify(file))) is not None:
            return read_header(path)
        with self._open(file) as stream:
            return parse_header(stream.read, file.size)

    def fetch(self, file: AdapterFile) -> Path:
        """See `AdapterStore`."""
        try:
            return self._cache.get(_identify(file), file.size, lambda copy: self._download(file, copy), DOWNLOAD_S)
        except filelock.Timeout:
            raise Unavailable(
                f"LoRA {file.name!r} waits for another process, which fetches it or makes room on the disk; try again."
            ) from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Unavailable(f"LoRA {file.name!r} cannot be copied to the local disk: {reason}.") from error

    def read_ahead(self, file: AdapterFile) -> None:
        """See `AdapterStore`; what is not on the disk yet is only asked for by a request that is accepted."""
        if (path := self._cache.find(_identify(file))) is not None:
            read_ahead(path)

    def read_note(self, file: AdapterFile, suffix: str, limit: int) -> bytes | None:
        """See `AdapterStore`; read once for each listing."""
        if file.name + suffix not in self._list(self._listing_s):
            return None
        key = (file.name + suffix, limit)
        note = self._notes.get(key)
        if note is None:
            location = file.location.removesuffix(SUFFIX) + suffix
            with self._open(AdapterFile(file.name, location, 0, "")) as stream:
                note = self._notes[key] = stream.read(limit)
        return note

    def is_current(self, file: AdapterFile) -> bool:
        """A copy does not change."""
        return True

    def close(self) -> None:
        """See `AdapterStore`."""
        self._threads.close(0)

    def _download(self, file: AdapterFile, copy: BinaryIO) -> None:
        self._forget(file)  # the checksum, too, shall be today's
        note = self.read_note(file, CHECKSUM_SUFFIX, 64)
        expected = None if note is None else note.decode("ascii", "replace").lower()
        digest, received = hashlib.sha256(), 0
        deadline = time.monotonic() + DOWNLOAD_S
        with self._open(file) as stream:
            while chunk := stream.read_some(CHUNK):
                received += len(chunk)
                if received > file.size:
                    break
                if time.monotonic() > deadline:
                    raise Unavailable(f"LoRA {file.name!r} did not arrive within {DOWNLOAD_S:g} s; try again.")
                digest.update(chunk)
                copy.write(chunk)
        if received != file.size:
            raise Unavailable(
                f"LoRA {file.name!r} came with {received} bytes or more instead of {file.size}; try again."
            )
        if expected is not None and digest.hexdigest() != expected:
            raise Unavailable(f"LoRA {file.name!r} is damaged: its sha256 is not the one that the store has for it.")
        self._forget(file)
        if self.find(file.name) != file:
            raise Unavailable(f"LoRA {file.name!r} changed while it was being fetched; try again.")

    def _forget(self, file: AdapterFile) -> None:
        """Have the store asked anew."""
        with self._lock:
            self._described.pop(file.name, None)
            self._listed_at = float("-inf")

    def _open(self, file: AdapterFile) -> _Stream:
        try:
            opened = self._call(lambda: self._files.open(file.location, "rb", **self._open_options))
        except FileNotFoundError:
            raise NotFound(f"LoRA {file.name!r} has vanished from the adapter store.") from None
        return _Stream(opened, self._call, self._threads)

    def _list(self, age_s: float) -> dict[str, Entry]:
        """By file name, at most so old; an older one where the store does not answer."""
        now = time.monotonic()
        with self._lock:
            listing = self._listing
            if listing is not None and now - self._listed_at <= age_s:
                return listing
        try:
            entries = self._call(self._list_anew)
        except (Unavailable, FileNotFoundError) as error:
            if listing is not None:
                return listing
            raise Unavailable(f"The adapter store cannot be listed: {error or 'it is not there'}") from None
        files = {}
        for entry in entries:
            folder, _, name = str(entry["name"]).rpartition("/")
            if folder == self._root.rstrip("/"):  # what a page links elsewhere is not of the store
                files[name] = entry
        with self._lock:
            self._listing, self._listed_at = files, now
            self._notes.clear()
        return files

    def _list_anew(self) -> list[Entry]:
        self._files.invalidate_cache()  # fsspec keeps listings of its own, by default for ever
        return self._files.ls(self._root, detail=True)

    def _describe(self, listing: dict[str, Entry], name: str) -> Entry:
        """What the listing says or, where that is only the name, the server itself, remembered as long as a listing."""
        entry = listing[name + SUFFIX]
        if entry.get("size") is not None:
            return entry
        now = time.monotonic()
        known_at, known = self._described.get(name, (float("-inf"), None))
        if known is not None and now - known_at <= self._listing_s:
            return known
        try:
            found = self._call(lambda: self._files.info(entry["name"]))
        except FileNotFoundError as error:
            if not _says_missing(error):
                raise Unavailable(f"The adapter store cannot be asked for LoRA {name!r}.") from None
            raise describe_unknown(name, [other for other in list_names(listing) if other != name]) from None
        except Unavailable:
            if known is not None:
                return known
            raise
        self._described[name] = (now, found)
        return found

    def _call(self, work: Callable[[], Result]) -> Result:
        """Do `work` on a thread that may hang, and wait for it a bounded time; raises Unavailable once closed, too."""
        waited = time.monotonic() - self._failed_at
        if waited < self._timeout_s:
            raise Unavailable(f"the store did not answer {waited:.0f} s ago")
        answer = self._threads.submit(work)
        try:
            return wait_for(answer, "the adapter store", self._timeout_s)
        except FileNotFoundError:
            raise
        except Exception as error:
            self._failed_at = time.monotonic()
            if isinstance(error, Unavailable):
                raise
            raise Unavailable(f"the adapter store cannot be read ({type(error).__name__})") from error


class _Stream:
    """An open remote file, each of whose reads is bounded."""

    def __init__(self, file: Any, call: Callable[[Callable[[], Any]], Any], threads: DaemonThreads) -> None:
        self._file, self._call, self._threads = file, call, threads

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.submit(self._file.close)  # which may hang as well

    def read_some(self, count: int) -> bytes:
        """At most `count` bytes, none at the end."""
        return self._call(lambda: self._file.read(count))

    def read(self, count: int) -> bytes:
        """`count` bytes, fewer at the end."""
        parts = []
        while count and (part := self.read_some(count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _identify(file: AdapterFile) -> str:
    return f"{file.location} {file.size} {file.version}"


def _bound_sockets(protocol: str, timeout_s: float) -> dict[str, Any]:
    """Options that end a hanging connection, so that its thread comes back."""
    if protocol in S3:
        times = {"connect_timeout": timeout_s, "read_timeout": timeout_s, "retries": {"max_attempts": 0}}
        return {"config_kwargs": times}
    if protocol not in STREAMED:
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
    return {"client_kwargs": {"timeout": timeout}}


def _says_missing(error: FileNotFoundError) -> bool:
    """fsspec's HTTP raises this for every failure; a server that answers 404 is the true one."""
    cause = error.__cause__
    return cause is None or getattr(cause, "status", None) in (404, 410)
