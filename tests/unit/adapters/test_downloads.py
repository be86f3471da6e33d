"""What a download from any remote store promises, over HTTP and from S3, each from a real server."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loras.http_store import serve_folder
from swiftdiffusion.adapters.disk_cache import DiskCache
from swiftdiffusion.adapters.remote_store import RemoteStore
from swiftdiffusion.errors import NotFound, Unavailable

from .lora_files import peft, write


@dataclass
class Source:
    """A server of files: as a store, and from behind."""

    server: Any  # its attribute `cuts_at` has connections end after so many bytes
    url: str
    put: Callable[[str, bytes], object]
    delete: Callable[[str], object]
    timeout_s: float


@contextmanager
def open_http(folder: Path, request: pytest.FixtureRequest) -> Iterator[Source]:
    folder.mkdir()
    with serve_folder(folder) as server:
        yield Source(
            server,
            server.url,
            lambda name, content: (folder / name).write_bytes(content),
            lambda name: (folder / name).unlink(),
            timeout_s=1.0,
        )


@contextmanager
def open_s3(folder: Path, request: pytest.FixtureRequest) -> Iterator[Source]:
    bucket = request.getfixturevalue("bucket")
    yield Source(bucket, bucket.url, bucket.put, bucket.delete, timeout_s=3.0)


@pytest.fixture
def ink(tmp_path: Path, pipeline: Any) -> bytes:
    return write(tmp_path / "ink.safetensors", peft(pipeline)).read_bytes()


@pytest.fixture(params=[open_http, open_s3], ids=["http", "s3"])
def source(request: pytest.FixtureRequest, tmp_path: Path, ink: bytes) -> Iterator[Source]:
    """Has `ink`."""
    with request.param(tmp_path / "served", request) as source:
        source.put("ink.safetensors", ink)
        yield source


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "copies"


@pytest.fixture
def store(source: Source, copies: Path) -> RemoteStore:
    return RemoteStore(source.url, DiskCache(copies, 2**30), 2**30, source.timeout_s)


def list_copies(copies: Path) -> list[Path]:
    return sorted(path for path in copies.iterdir() if path.suffix != ".lock")


def test_one_that_is_cut_short_is_never_served(store: RemoteStore, source: Source, copies: Path) -> None:
    file = store.find("ink")
    source.server.cuts_at = 5000
    with pytest.raises(Unavailable):
        store.fetch(file)
    assert list_copies(copies) == []
    source.server.cuts_at = None
    time.sleep(source.timeout_s)  # in which the store is left alone
    assert store.fetch(file).stat().st_size == file.size


def test_checksums_are_checked(store: RemoteStore, source: Source, ink: bytes, copies: Path) -> None:
    source.put("ink.safetensors.sha256", b"0" * 64 + b"  ink.safetensors\n")
    with pytest.raises(Unavailable, match="LoRA 'ink' is damaged: its sha256"):
        store.fetch(store.find("ink"))
    assert list_copies(copies) == []
    source.put("ink.safetensors.sha256", hashlib.sha256(ink).hexdigest().encode() + b"  ink.safetensors\n")
    assert store.fetch(store.find("ink")).exists()


def test_a_file_that_vanishes(store: RemoteStore, source: Source) -> None:
    file = store.find("ink")
    source.delete("ink.safetensors")
    with pytest.raises(NotFound, match="'ink' has vanished"):
        store.fetch(file)
