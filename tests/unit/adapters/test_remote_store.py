"""Stores behind a real HTTP server, on its good and bad days."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loras.http_store import HttpStore, serve_folder
from swiftdiffusion.adapters.disk_cache import DiskCache
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.remote_store import RemoteStore
from swiftdiffusion.adapters.safetensors_file import read_header
from swiftdiffusion.adapters.targets import NETWORKS, Targets
from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable

from .lora_files import kohya, peft, write

TIMEOUT_S = 1.0
MakeStore = Callable[..., RemoteStore]


@pytest.fixture
def folder(tmp_path: Path, pipeline: Any) -> Path:
    """What the server serves; `ink` is a LoRA that fits."""
    folder = tmp_path / "served"
    folder.mkdir()
    write(folder / "ink.safetensors", peft(pipeline))
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[HttpStore]:
    with serve_folder(folder) as server:
        yield server


@pytest.fixture
def make_store(server: HttpStore, tmp_path: Path) -> MakeStore:
    def make(limit: int = 2**30, size_limit: int = 2**30, listing_s: float = 30.0) -> RemoteStore:
        return RemoteStore(server.url, DiskCache(tmp_path / "copies", limit), size_limit, TIMEOUT_S, listing_s)

    return make


@pytest.fixture
def make_remote_loader(make_store: MakeStore, targets: Targets) -> Iterator[Callable[..., LoraLoader]]:
    loaders = []

    def make(**options: Any) -> LoraLoader:
        loaders.append(LoraLoader(make_store(**options), targets, NETWORKS))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


def list_copies(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "copies").iterdir() if path.suffix != ".lock")


def test_lists_finds_and_fetches(make_store: MakeStore, folder: Path, server: HttpStore) -> None:
    store = make_store()
    assert store.names() == ["ink"]
    file = store.find("ink")
    assert (file.name, file.size) == ("ink", (folder / "ink.safetensors").stat().st_size)
    copy = store.fetch(file)
    assert copy.read_bytes() == (folder / "ink.safetensors").read_bytes()
    assert store.fetch(file) == copy
    assert server.bodies == ["/ink.safetensors"]


def test_a_header_is_read_without_the_rest(make_store: MakeStore, folder: Path, server: HttpStore) -> None:
    big = folder / "big.safetensors"
    whole = (folder / "ink.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    text = whole[8 : 8 + length].decode().rstrip()[:-1] + ',"more":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}}'
    start = len(whole) - 8 - length
    text %= (2**26, start, start + 2**26)
    with big.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text.encode() + whole[8 + length :])
        file.truncate(8 + len(text) + start + 2**26)
    store = make_store()
    header = store.read_header(store.find("big"))
    assert header == read_header(big)
    time.sleep(0.2)
    assert server.finished == []


def test_loads_as_from_a_folder(make_remote_loader: Callable[..., LoraLoader], tmp_path: Path) -> None:
    loader = make_remote_loader()
    found = loader.inspect("ink")
    weights = loader.load(found.file).result(10)
    assert weights.networks.keys() == set(NETWORKS)


def test_new_files_are_found_at_once_and_changed_ones_soon(
    make_store: MakeStore, folder: Path, pipeline: Any, server: HttpStore
) -> None:
    patient, eager = make_store(), make_store(listing_s=0.0)
    first = patient.find("ink")
    time.sleep(1.1)  # so that the listing counts as old, and the file's time in whole seconds changes
    write(folder / "paint.safetensors", peft(pipeline))
    assert patient.find("paint").name == "paint"
    write(folder / "ink.safetensors", kohya(pipeline))
    second = eager.find("ink")
    assert second != first
    assert eager.fetch(second).read_bytes() == (folder / "ink.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["../secret", "sub/ink", "%2e%2e%2fsecret", "ink?x", "", "http://127.0.0.1/ink"])
def test_names_never_become_addresses(name: str, make_store: MakeStore, server: HttpStore) -> None:
    with pytest.raises(InvalidArgument, match="not a name"):
        make_store().find(name)
    assert server.bodies == []


def test_only_files_directly_there_count(make_store: MakeStore, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "hidden.safetensors").write_bytes(b"x")
    (folder / "evil.pt").write_bytes(b"\x80\x04.")
    store = make_store()
    for unknown in ("hidden", "Ink", "paint"):
        with pytest.raises(NotFound, match="which has: ink"):
            store.find(unknown)
    with pytest.raises(InvalidArgument, match=r"only \.safetensors files are served"):
        store.find("evil")


def test_a_file_that_is_too_large_is_not_asked_for(make_store: MakeStore, server: HttpStore) -> None:
    with pytest.raises(InvalidArgument, match="LoRA 'ink' has 0 MiB; at most 0 are allowed"):
        make_store(size_limit=1000).find("ink")
    assert server.bodies == []


@pytest.mark.parametrize("way", ["hangs", "gone"])
def test_a_dead_store_costs_one_bounded_wait(
    way: str, make_store: MakeStore, server: HttpStore, folder: Path, pipeline: Any
) -> None:
    write(folder / "paint.safetensors", peft(pipeline))
    store = make_store(listing_s=0.0)
    copied, known = store.find("ink"), store.find("paint")
    store.fetch(copied)
    if way == "hangs":
        server.hangs = True
    else:
        server.server.shutdown()
        server.server.server_close()
    started = time.monotonic()
    assert store.find("ink") == copied  # what is known and here stays in use
    assert store.fetch(copied).exists()
    assert store.read_header(copied).tensors
    assert time.monotonic() - started < 3 * TIMEOUT_S
    started = time.monotonic()
    for ask in (lambda: store.fetch(known), lambda: store.read_header(known)):
        with pytest.raises(Unavailable):
            ask()
    with pytest.raises(NotFound):
        store.find("unknown")
    assert time.monotonic() - started < 2 * TIMEOUT_S


def test_a_store_that_is_dead_from_the_start(tmp_path: Path) -> None:
    store = RemoteStore("http://127.0.0.1:9", DiskCache(tmp_path, 2**20), 2**20, TIMEOUT_S)
    with pytest.raises(Unavailable, match="adapter store cannot be listed"):
        store.find("ink")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer"):
        store.names()
    assert time.monotonic() - started < 0.5


def test_a_slow_store_does_not_hold_up_the_others(
    make_remote_loader: Callable[..., LoraLoader], server: HttpStore, folder: Path, pipeline: Any
) -> None:
    write(folder / "paint.safetensors", peft(pipeline))
    loader = make_remote_loader()
    ink, paint = loader.inspect("ink"), loader.inspect("paint")
    loader.load(ink.file).result(10)
    server.pause_s = 0.05
    slow = loader.begin([paint.file], [1.0])
    with pytest.raises(Unavailable, match=r"LoRA 'paint' did not load within 0\.1 seconds"):
        slow.wait(0.1)
    assert loader.begin([ink.file], [1.0]).wait(1)
    server.pause_s = 0.0
    assert slow.wait(20)


def test_closing_gives_downloads_up(
    make_remote_loader: Callable[..., LoraLoader], server: HttpStore, tmp_path: Path
) -> None:
    loader = make_remote_loader()
    ink = loader.inspect("ink").file
    server.pause_s, server.bodies = 0.5, []
    loading = loader.load(ink)
    deadline = time.monotonic() + 10
    while not server.bodies:
        assert time.monotonic() < deadline, "the download does not begin"
        time.sleep(0.01)
    loader.close()
    with pytest.raises(Unavailable, match="the server is shutting down"):
        loading.result(0)
    assert list_copies(tmp_path) == []


def test_a_process_ends_while_its_store_hangs(tmp_path: Path) -> None:
    """Of a protocol whose sockets have no bound of ours; a pipe that nobody writes to stands for it."""
    os.mkfifo(tmp_path / "ink.safetensors")
    program = """if True:
        import sys
        from pathlib import Path
        from swiftdiffusion.adapters.disk_cache import DiskCache
        from swiftdiffusion.adapters.remote_store import RemoteStore
        store = RemoteStore("file://" + sys.argv[1], DiskCache(Path(sys.argv[1], "copies"), 2**20), 2**20, 0.1)
        store.read_header(store.find("ink"))"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, timeout=60, check=False, stderr=subprocess.PIPE, text=True)
    assert "the adapter store did not answer within 0.1 s" in ended.stderr


def test_a_closed_store_is_asked_for_nothing(make_store: MakeStore, server: HttpStore) -> None:
    store = make_store()
    ink = store.find("ink")
    store.close()
    with pytest.raises(Unavailable, match="the server is shutting down"):
        store.fetch(ink)
    assert server.bodies == []


def test_an_address_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="'nonsense://x' cannot be opened"):
        RemoteStore("nonsense://x", DiskCache(tmp_path, 2**20), 2**20)


FETCH = """
import sys
from pathlib import Path
from swiftdiffusion.adapters.disk_cache import DiskCache
from swiftdiffusion.adapters.remote_store import RemoteStore
from swiftdiffusion.errors import SwiftDiffusionError

if len(sys.argv) > 3:  # the most that a file may grow to in this process
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
store = RemoteStore(sys.argv[1], DiskCache(Path(sys.argv[2]), 2**30), 2**30, 10.0)
try:
    copy = store.fetch(store.find("ink"))
    print(copy.read_bytes() == Path(sys.argv[2], "..", "served", "ink.safetensors").read_bytes())
except SwiftDiffusionError as error:
    print(type(error).__name__, error)
"""


def start_process(server: HttpStore, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH, server.url, str(tmp_path / "copies"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_several_processes_fetch_a_file_once(server: HttpStore, tmp_path: Path) -> None:
    server.pause_s = 0.02
    processes = [start_process(server, tmp_path) for _ in range(3)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["True"] * 3
    assert server.bodies == ["/ink.safetensors"]


def test_a_full_disk_is_said_and_leaves_nothing(server: HttpStore, tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's end: both are an error of the write."""
    answer = start_process(server, tmp_path, "4096").communicate(timeout=60)[0]
    assert answer.startswith("Unavailable LoRA 'ink' cannot be copied to the local disk: File too large.")
    assert list_copies(tmp_path) == []
