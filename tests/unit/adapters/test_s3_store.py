"""Stores in a bucket of a real S3 server: what `RemoteStore` promises, through s3fs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swiftdiffusion.adapters.disk_cache import DiskCache
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.remote_store import RemoteStore
from swiftdiffusion.adapters.safetensors_file import read_header
from swiftdiffusion.adapters.targets import NETWORKS, Targets
from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable

from .lora_files import kohya, peft, write
from .s3_store import S3Store

TIMEOUT_S = 3.0
MakeStore = Callable[..., RemoteStore]


@pytest.fixture
def ink(tmp_path: Path, pipeline: Any) -> Path:
    return write(tmp_path / "ink.safetensors", peft(pipeline))


@pytest.fixture
def server(ink: Path, bucket: S3Store) -> S3Store:
    """Has `ink`, a LoRA that fits."""
    bucket.put("ink.safetensors", ink.read_bytes())
    return bucket


@pytest.fixture
def make_store(server: S3Store, tmp_path: Path) -> MakeStore:
    def make(listing_s: float = 30.0) -> RemoteStore:
        return RemoteStore(server.url, DiskCache(tmp_path / "copies", 2**30), 2**30, TIMEOUT_S, listing_s)

    return make


def test_lists_finds_and_fetches(make_store: MakeStore, ink: Path, server: S3Store) -> None:
    server.put("sub/hidden.safetensors", b"x")
    server.put("evil.pt", b"\x80\x04.")
    store = make_store()
    assert store.names() == ["ink"]
    file = store.find("ink")
    assert (file.name, file.size) == ("ink", ink.stat().st_size)
    assert store.read_header(file) == read_header(ink)
    copy = store.fetch(file)
    assert copy.read_bytes() == ink.read_bytes()
    asked = len(server.objects)
    assert store.fetch(file) == copy
    assert store.read_header(file) == read_header(ink)
    assert len(server.objects) == asked
    with pytest.raises(NotFound, match="which has: ink"):
        store.find("hidden")
    with pytest.raises(InvalidArgument, match=r"only \.safetensors files are served"):
        store.find("evil")


def test_loads_as_from_a_folder(make_store: MakeStore, targets: Targets) -> None:
    loader = LoraLoader(make_store(), targets, NETWORKS)
    assert loader.load(loader.inspect("ink").file).result(10).networks.keys() == set(NETWORKS)
    loader.close()


def test_new_files_are_found_at_once_and_changed_ones_soon(
    make_store: MakeStore, server: S3Store, pipeline: Any, tmp_path: Path
) -> None:
    patient, eager = make_store(), make_store(listing_s=0.0)
    first = patient.find("ink")
    time.sleep(1.1)  # so that the listing counts as old
    other = write(tmp_path / "other.safetensors", kohya(pipeline)).read_bytes()
    server.put("paint.safetensors", other)
    assert patient.find("paint").name == "paint"
    server.put("ink.safetensors", other)
    second = eager.find("ink")
    assert second != first
    assert eager.fetch(second).read_bytes() == other
    with pytest.raises(Unavailable, match=r"changed while it was being fetched|came with"):
        eager.fetch(first)


@pytest.mark.parametrize("way", ["hangs", "gone"])
def test_a_dead_store_costs_one_bounded_wait(way: str, make_store: MakeStore, server: S3Store, ink: Path) -> None:
    server.put("paint.safetensors", ink.read_bytes())
    store = make_store(listing_s=0.0)
    copied, known = store.find("ink"), store.find("paint")
    store.fetch(copied)
    if way == "hangs":
        server.hangs = True
    else:
        server.stop()
    started = time.monotonic()
    assert store.find("ink") == copied  # what is known and here stays in use
    assert store.fetch(copied).exists()
    assert time.monotonic() - started < 3 * TIMEOUT_S
    started = time.monotonic()
    for ask in (lambda: store.fetch(known), lambda: store.read_header(known)):
        with pytest.raises(Unavailable):
            ask()
    assert time.monotonic() - started < 3 * TIMEOUT_S


def test_a_bucket_that_is_not_there(server: S3Store, tmp_path: Path) -> None:
    store = RemoteStore("s3://nobodys/styles", DiskCache(tmp_path, 2**20), 2**20)
    with pytest.raises(Unavailable, match="adapter store cannot be listed"):
        store.find("ink")


def test_credentials_that_are_none(server: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(InvalidArgument, match=r"'s3://adapters/styles' cannot be opened: .*nobody"):
        RemoteStore(server.url, DiskCache(tmp_path, 2**20), 2**20)
