"""Barriers in shared memory, as PTX ISA, "mbarrier", has them."""

from __future__ import annotations

from .errors import Misuse

MOST_BYTES = (1 << 20) - 1  # PTX ISA, "mbarrier", "Contents of the mbarrier object"


class Barrier:
    """One: it ends a phase and begins the next when all have arrived and all bytes have come."""

    def __init__(self) -> None:
        self.phase = 0
        self._count = 0
        self._awaited = 0  # arrivals
        self._bytes = 0
        self._brought = 0  # operations that those who arrived knew, in this phase
        self.known = 0  # and in those before

    def __str__(self) -> str:
        return f"a barrier in phase {self.phase} that awaits {self._awaited} arrivals and {self._bytes} bytes"

    def init(self, count: int) -> None:
        """Await so many arrivals in each phase."""
        if self._count or count < 1:
            raise Misuse(f"{self} is initialised for {count} arrivals")
        self._count = self._awaited = count

    def has_passed(self, parity: int) -> bool:
        """Whether the phase before this one has that parity (PTX ISA, "mbarrier.test_wait", .parity)."""
        if parity not in (0, 1) or not self._count:
            raise Misuse(f"{self} is waited for with parity {parity}")
        return self.phase & 1 != parity

    def arrive(self, count: int, known: int) -> None:
        """So many arrivals, of somebody who knows those operations to be done."""
        if not 0 < count <= self._awaited:
            raise Misuse(f"{count} arrive at {self}")
        self._awaited -= count
        self._brought |= known
        self._end_phase_if_complete()

    def expect(self, bytes_: int, known: int) -> None:
        """One arrival, and bytes that this phase needs besides."""
        self._change_bytes(bytes_)
        self.arrive(1, known)

    def complete(self, bytes_: int, known: int) -> None:
        """Bytes have come."""
        self._change_bytes(-bytes_)
        self._brought |= known
        self._end_phase_if_complete()

    def _change_bytes(self, bytes_: int) -> None:
        self._bytes += bytes_
        if abs(self._bytes) > MOST_BYTES:
            raise Misuse(f"{self}, which are too many")

    def _end_phase_if_complete(self) -> None:
        if self._awaited == self._bytes == 0:
            self.phase += 1
            self._awaited = self._count
            self.known |= self._brought
            self._brought = 0


class Barriers:
    """An allocation of them."""

    def __init__(self, count: int) -> None:
        self._barriers = [Barrier() for _ in range(count)]

    def index(self, index: int) -> Barrier:
        """One."""
        if not 0 <= index < len(self._barriers):
            raise Misuse(f"barrier {index} of {len(self._barriers)}")
        return self._barriers[index]
