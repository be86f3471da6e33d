import os
import time
from pathlib import Path

import pytest

from swiftdiffusion.adapters.page_cache import STRIDE, read_ahead

SIZE = 20 * STRIDE + 5


def is_cached(path: Path, start: int) -> bool:
    with path.open("rb", buffering=0) as file:
        try:
            return os.preadv(file.fileno(), [bytearray(1)], start, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False


def test_the_whole_file_is_read_ahead(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    places = range(0, SIZE, STRIDE)
    try:
        if any(is_cached(path, start) for start in places):
            pytest.skip("this file system keeps its files in memory")
    except OSError:
        pytest.skip("this file system does not tell what is in memory")
    read_ahead(path)
    deadline = time.monotonic() + 10
    while not all(is_cached(path, start) for start in places):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_cannot_be_read_is_left_to_the_reader(tmp_path: Path) -> None:
    read_ahead(tmp_path / "nothing")
    read_ahead(tmp_path)
