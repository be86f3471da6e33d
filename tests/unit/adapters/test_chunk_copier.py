import threading
from collections.abc import Iterator

import pytest
import torch

from swiftdiffusion.adapters import chunk_copier
from swiftdiffusion.adapters.chunk_copier import ChunkCopier
from swiftdiffusion.adapters.tensor_block import Arrangement, TensorBlock

SIZE = 1000


@pytest.fixture
def copier(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChunkCopier]:
    monkeypatch.setattr(chunk_copier, "CHUNK", 128)
    copier = ChunkCopier(torch.device("cpu"), threads=3)
    yield copier
    copier.close(10)


@pytest.fixture
def block() -> TensorBlock:
    return TensorBlock.allocate(Arrangement.of({"a": (torch.uint8, (SIZE,))}))


def test_chunks_cover_the_block_and_are_read_side_by_side(copier: ChunkCopier, block: TensorBlock) -> None:
    together = threading.Barrier(3, timeout=10)
    parts = []

    def read(start: int, end: int) -> None:
        parts.append((start, end))
        if start < 3 * 128:
            together.wait()  # the first three are under way at the same time
        block.memory[start:end] = start // 128

    assert copier.copy(block, read) is block
    size = len(block.memory)
    assert sorted(parts) == [(start, min(start + 128, size)) for start in range(0, size, 128)]
    assert torch.equal(block.tensors["a"], torch.arange(SIZE) // 128)


def test_after_a_failure_nothing_reads_any_more(copier: ChunkCopier, block: TensorBlock) -> None:
    reading = threading.Semaphore(0)
    started = []

    def read(start: int, end: int) -> None:
        started.append(start)
        if start == 128:
            assert reading.acquire(timeout=10)
            raise OSError(5, "the disk is broken")
        if start == 0:
            reading.release()
            threading.Event().wait(0.2)
        else:
            threading.Event().wait(0.01)

    with pytest.raises(OSError, match="the disk is broken"):
        copier.copy(block, read)
    count = len(started)
    assert count < len(range(0, SIZE, 128))
    assert copier.submit(lambda: len(started)).result(10) == count


def test_an_empty_block(copier: ChunkCopier) -> None:
    empty = TensorBlock.allocate(Arrangement.of({}))
    assert copier.copy(empty, lambda start, end: pytest.fail("there is nothing to read")) is empty
