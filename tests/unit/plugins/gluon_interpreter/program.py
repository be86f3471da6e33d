"""One program of a grid: its partitions and the copies that are on their way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .copies import Fetch
from .errors import Deadlock, Misuse
from .operations import Operation
from .partition import Partition

Work = tuple[Callable[..., Any], tuple[Any, ...]]


class Program:
    """Runs one thing at a time: a partition until it waits, or a copy's landing, whichever is drawn."""

    def __init__(self, number: int, count: int, seed: int) -> None:
        self.number = number
        self.count = count
        self.running: Partition
        self.fetches: list[Fetch] = []  # that have not landed
        self._partitions: list[Partition] = []
        self._operations = 0
        self._asynchronous: list[Operation] = []
        self._random = random.Random(f"{seed} {number}")
        self._landing_speed = self._draw_speed()

    def begin(self, asynchronous: bool) -> Operation:
        """Number an operation on shared memory."""
        operation = Operation(1 << self._operations, asynchronous, in_flight=asynchronous)
        self._operations += 1
        if asynchronous:
            self._asynchronous.append(operation)
        return operation

    def execute(self, kernel: Callable[[], Any]) -> None:
        """All of it.

        Raises:
            KernelError: what is wrong with it.
        """
        whole = Partition(self, kernel, (), 0, self._draw_speed())
        self._partitions.append(whole)
        try:
            while not whole.done:
                self._take_step()
        finally:
            for partition in self._partitions:
                partition.stop()
        for operation in self._asynchronous:
            if not operation.bit & whole.known:
                raise Misuse(f"the program ends, and nobody has waited for this: {operation.position}")

    def specialise(self, work: list[Work]) -> None:
        """Run partitions and wait until all are done."""
        whole = self.running
        partitions = [Partition(self, *one, whole.known, self._draw_speed()) for one in work]
        self._partitions += partitions
        whole.wait(lambda: all(partition.done for partition in partitions), lambda: "its partitions")
        for partition in partitions:
            whole.known |= partition.known

    def _draw_speed(self) -> float:
        return 10 ** self._random.uniform(-1, 1)

    def _take_step(self) -> None:
        waiting = [partition for partition in self._partitions if not partition.done]
        able = [partition for partition in waiting if partition.may_go_on()]
        if not able and not self.fetches:
            raise Deadlock("\n".join(f"{at.waits_at}\n    waits for {at.describe()}" for at in waiting))
        choices: list[Partition | Fetch] = [*able, *self.fetches]
        speeds = [partition.speed for partition in able] + [self._landing_speed] * len(self.fetches)
        (chosen,) = self._random.choices(choices, speeds)
        if isinstance(chosen, Fetch):
            self.fetches.remove(chosen)
            chosen.land()
        else:
            self.running = chosen
            chosen.take_turn()
