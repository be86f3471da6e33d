import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import pytest

from swiftdiffusion.adapters import disk_cache
from swiftdiffusion.adapters.disk_cache import ABANDONED_S, DiskCache
from swiftdiffusion.daemon_threads import DaemonThreads


def write(count: int) -> Callable[[BinaryIO], None]:
    def fetch(file: BinaryIO) -> None:
        file.write(b"x" * count)

    return fetch


def get(cache: DiskCache, identity: str, size: int = 100) -> Path:
    return cache.get(identity, size, write(size), timeout_s=5)


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """For what may never return."""
    return DaemonThreads(1, "test").submit(work)


def refuse(file: BinaryIO) -> None:
    raise AssertionError("it is here")


def test_fetched_once(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "new" / "folder", 1000)
    path = get(cache, "a")
    assert path.read_bytes() == b"x" * 100
    assert DiskCache(tmp_path / "new" / "folder", 1000).get("a", 100, refuse, 5) == path
    assert cache.find("a") == path
    assert cache.find("b") is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 250)
    a, b = get(cache, "a"), get(cache, "b")
    os.utime(a, (1, 1))
    os.utime(b, (2, 2))
    cache.get("a", 100, refuse, 5)
    c = get(cache, "c")
    assert (a.exists(), b.exists(), c.exists()) == (True, False, True)
    assert cache.nbytes == 200


def test_who_reads_a_file_keeps_it(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100)
    with get(cache, "a").open("rb") as file:
        get(cache, "b")
        assert cache.find("a") is None
        assert file.read() == b"x" * 100


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000)

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        cache.get("a", 100, fail, 5)
    assert cache.find("a") is None
    assert cache.nbytes == 0
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert get(cache, "a").exists()


def test_parts_of_dead_processes_are_cleared_away(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000)
    old, young = tmp_path / "old.part", tmp_path / "young.part"
    for part in (old, young):
        part.write_bytes(b"half")
    long_ago = young.stat().st_mtime - 2 * ABANDONED_S
    os.utime(old, (long_ago, long_ago))
    get(cache, "a")
    assert (old.exists(), young.exists()) == (False, True)


def test_the_wait_for_another_is_bounded(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000)
    fetching, finish = threading.Event(), threading.Event()

    def fetch_slowly(file: BinaryIO) -> None:
        fetching.set()
        assert finish.wait(10)
        file.write(b"x" * 100)

    thread = threading.Thread(target=cache.get, args=("a", 100, fetch_slowly, 5))
    thread.start()
    assert fetching.wait(10)
    assert cache.find("a") is None  # a part is not served
    with pytest.raises(filelock.Timeout):
        cache.get("a", 100, refuse, timeout_s=0.1)
    finish.set()
    thread.join(10)
    assert cache.get("a", 100, refuse, 5).read_bytes() == b"x" * 100


def test_the_wait_for_one_who_makes_room_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "ROOM_S", 0.1)
    cache = DiskCache(tmp_path, 1000)
    with filelock.FileLock(tmp_path / "room.lock"):
        answer = in_thread(lambda: get(cache, "a"))
        with pytest.raises(filelock.Timeout):
            answer.result(5)
    assert get(cache, "a").exists()
