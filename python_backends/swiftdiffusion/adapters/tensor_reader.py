"""Reading a file's tensors into one block of memory, any part of it at a time, from any thread."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from swiftdiffusion.adapters.safetensors_file import Header, MalformedFileError
from swiftdiffusion.adapters.tensor_block import Arrangement, TensorBlock


class Piece(NamedTuple):
    """Bytes `start` to `end` of the block, which lie in the file from byte `source` on."""

    start: int
    end: int
    source: int


class ReadingPlan:
    """Which of a file's tensors go where in a block, as far as possible in the file's order; for any file so headed."""

    def __init__(self, header: Header, names: Iterable[str]) -> None:
        entries = {name: header.tensors[name] for name in sorted(names, key=lambda name: header.tensors[name].start)}
        self.arrangement = Arrangement.of({name: (entry.dtype, entry.shape) for name, entry in entries.items()})
        places = self.arrangement.places
        self.pieces = _join(
            Piece(places[name].start, places[name].end, entry.start) for name, entry in entries.items() if entry.nbytes
        )


class TensorReader:
    """An open file, and the block that its tensors go to.

    Raises `OSError` if the file cannot be opened.
    """

    def __init__(self, path: Path, plan: ReadingPlan) -> None:
        self.block = TensorBlock.allocate(plan.arrangement)
        self._memory = self.block.memory.numpy().data
        self._pieces = plan.pieces
        self._file = path.open("rb", buffering=0)

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> None:
        """Fill bytes `start` to `end` of the block.

        Raises `MalformedFileError` if the file has become shorter than its header says, `OSError` if it
        cannot be read.
        """
        first = max(0, bisect_right(self._pieces, start, key=lambda piece: piece.start) - 1)
        for piece in self._pieces[first:]:
            if piece.start >= end:
                break
            low, high = max(start, piece.start), min(end, piece.end)
            if low < high:
                self._read_exactly(self._memory[low:high], piece.source + low - piece.start)

    def _read_exactly(self, part: memoryview, source: int) -> None:
        while part.nbytes:
            count = os.preadv(self._file.fileno(), [part], source)
            if not count:
                raise MalformedFileError("was cut short while it was being read")
            part, source = part[count:], source + count


def _join(pieces: Iterable[Piece]) -> list[Piece]:
    """In the block's order; those that follow one another in both the block and the file become one."""
    joined: list[Piece] = []
    for piece in sorted(pieces):
        last = joined[-1] if joined else None
        if last is not None and (last.end, last.source + last.end - last.start) == (piece.start, piece.source):
            joined[-1] = Piece(last.start, piece.end, last.source)
        else:
            joined.append(piece)
    return joined
