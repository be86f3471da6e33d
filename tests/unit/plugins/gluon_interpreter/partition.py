"""Warps that execute one function while others execute theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import Misuse
from .operations import Operation
from .position import Position, find_position

if TYPE_CHECKING:
    from .program import Program
    from .shared_memory import View


class Stopped(BaseException):
    """Raised where a partition waits when its program has failed elsewhere."""


class Partition:
    """A thread that runs only when it is its turn, and gives it back where it waits."""

    def __init__(
        self, program: Program, function: Callable[..., Any], arguments: tuple[Any, ...], known: int, speed: float
    ) -> None:
        self.known = known  # operations that it knows to be done
        self.speed = speed  # how often it has its turn, compared to others
        self.products: list[Operation] = []  # those not yet waited for, the oldest first
        self.stores: list[Operation] = []
        self.may_go_on: Callable[[], bool] = lambda: True
        self.waits_at: Position | None = None
        self.describe: Callable[[], str] = str
        self.done = False
        self._unfenced: list[Operation] = []
        self._error: BaseException | None = None
        self._stopped = False
        self._program = program
        self._turn, self._turn_over = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._execute, args=(function, arguments), daemon=True)
        self._thread.start()

    def touch(self, view: View, writes: bool) -> None:
        """Read or write shared memory as itself, at once."""
        operation = self._program.begin(asynchronous=False)
        view.touch(operation, self.known, writes)
        self.known |= operation.bit
        if writes:
            self._unfenced.append(operation)

    def fence(self) -> None:
        """Let copies and products see what it has written."""
        for operation in self._unfenced:
            operation.fenced = True
        self._unfenced.clear()

    def finish(self, operations: list[Operation], pending: int) -> None:
        """Wait for all of its products or of its stores but the latest."""
        if pending < 0:
            raise Misuse(f"waits until {pending} are left")
        while len(operations) > pending:
            operation = operations.pop(0)
            operation.in_flight = False
            self.known |= operation.bit

    def wait(self, may_go_on: Callable[[], bool], describe: Callable[[], str]) -> None:
        """Let others have their turns, at least until then; `describe` says what it waits for."""
        self.may_go_on, self.describe, self.waits_at = may_go_on, describe, find_position()
        self._turn_over.release()
        self._turn.acquire()
        if self._stopped:
            raise Stopped

    def take_turn(self) -> None:
        """Run until it waits or is done. Raises what the function does."""
        self._turn.release()
        self._turn_over.acquire()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Never run again."""
        self._stopped = True
        self._turn.release()
        self._thread.join()

    def _execute(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._turn.acquire()
        try:
            if not self._stopped:
                function(*arguments)
        except Stopped:
            pass
        except BaseException as error:
            self._error = error
        self.done = True
        self._turn_over.release()
