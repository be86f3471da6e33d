"""Ctrl-C, SIGTERM and a closed terminal, as one exception."""

import signal
from types import FrameType


class Interrupted(BaseException):
    """A person or the system wants this to end. As with KeyboardInterrupt, no `except Exception` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number  # as shells count it


def raise_on_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted` from now on.

    SIGINT too is set explicitly: a job that a shell script puts into the background starts with it ignored.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
