"""Host memory that is used again: new pages, which the kernel finds and clears, take longer than reading a file."""

from __future__ import annotations

import threading
import weakref

import torch
from torch import Tensor

SMALLEST = 2**20  # bytes; what is smaller the C library keeps for itself
WASTE = 1.5  # of a piece that is larger than asked for
KEPT = 2**29  # bytes: one or two of SDXL's LoRAs


class HostMemory:
    """Pieces that nobody uses any more, kept up to so many bytes for the next who needs one. Thread-safe."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._free: list[Tensor] = []  # the longest unused first
        self._lock = threading.RLock()  # a piece may come back while one is looked for, in the same thread

    @property
    def nbytes(self) -> int:
        """Bytes that nobody uses."""
        return sum(piece.nbytes for piece in self._free)

    def take(self, nbytes: int) -> Tensor:
        """Uint8 [nbytes] of any content; it comes back when the last view of it is gone."""
        if nbytes < SMALLEST:
            return torch.empty(nbytes, dtype=torch.uint8)
        with self._lock:
            fitting = [piece for piece in self._free if nbytes <= piece.nbytes <= WASTE * nbytes]
            piece = min(fitting, key=lambda piece: piece.nbytes, default=None)
            if piece is not None:
                self._free = [other for other in self._free if other is not piece]
        if piece is None:
            piece = torch.empty(nbytes, dtype=torch.uint8)
        lent = piece[:nbytes].numpy()  # which the tensor below and all its views keep alive
        weakref.finalize(lent, self._take_back, piece).atexit = False
        return torch.from_numpy(lent)

    def _take_back(self, piece: Tensor) -> None:
        with self._lock:
            self._free.append(piece)
            while self.nbytes > self._kept:
                del self._free[0]


HOST_MEMORY = HostMemory()
