"""What touches shared memory, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .errors import Misuse, Race
from .position import Position, find_position


@dataclass(eq=False)
class Operation:
    """Something that reads or writes shared memory.

    Asynchronous ones, which are products and copies by descriptors, are done by other hardware, which sees what the
    partition itself has written only after a fence (PTX ISA, "Async proxy").
    """

    bit: int  # its own in the sets, kept as one number, of the operations that a partition knows to be done
    asynchronous: bool
    in_flight: bool  # an asynchronous one, until it is waited for
    position: Position = field(default_factory=find_position)
    fenced: bool = False


@dataclass(frozen=True)
class Access:
    """What an operation does with some bytes, as a layout with a swizzle of so many bytes places them."""

    operation: Operation
    start: int
    stop: int
    writes: bool
    swizzle: int

    def __str__(self) -> str:
        return f"{'writes' if self.writes else 'reads'} ({self.operation.position})"

    def overlaps(self, other: Access) -> bool:
        """Whether they have bytes in common."""
        return self.start < other.stop and other.start < self.stop

    def without(self, other: Access) -> list[Access]:
        """What it does with the bytes that the other does not touch: before them and after."""
        if not self.overlaps(other):
            return [self]
        ends = (self.start, min(self.stop, other.start)), (max(self.start, other.stop), self.stop)
        return [replace(self, start=start, stop=stop) for start, stop in ends if start < stop]


class History:
    """The accesses to an allocation that later ones must be ordered with."""

    def __init__(self) -> None:
        self._accesses: list[Access] = []

    def add(self, access: Access, known: int) -> None:
        """Note an access by somebody who knows the operations `known` to be done.

        Raises:
            Race: an earlier one that it conflicts with is not among them, or not fenced.
            Misuse: it reads what was never written, or in another order than it was written in.
        """
        never_written = [] if access.writes else [access]
        for earlier in self._accesses:
            if earlier.overlaps(access) and (earlier.writes or access.writes):
                self._check_order(earlier, access, known)
                never_written = [rest for part in never_written for rest in part.without(earlier)]
        if never_written:
            raise Misuse(f"an operation {access}, and nobody has written all of it")
        if access.writes:  # what comes after this one comes after what it overwrites, too
            self._accesses = [rest for earlier in self._accesses for rest in earlier.without(access)]
        self._accesses.append(access)

    def _check_order(self, earlier: Access, access: Access, known: int) -> None:
        before, now = earlier.operation, access.operation
        if not before.bit & known:
            raise Race(f"one operation {earlier} and another {access}, and nobody waits in between")
        if earlier.writes and now.asynchronous and not (before.asynchronous or before.fenced):
            raise Race(f"one operation {earlier} and another {access}, and there is no fence in between")
        if not access.writes and earlier.swizzle != access.swizzle:
            swizzles = f"swizzles of {earlier.swizzle} and of {access.swizzle} bytes"
            raise Misuse(f"one operation {earlier} and another {access}, with {swizzles}")
