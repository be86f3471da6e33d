"""Ctrl-C, SIGTERM and a closed terminal, as one exception."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A person or the system wants this to end. Like KeyboardInterrupt, no `Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number  # as shells count it


_received: list[int] = []


def raise_on_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted` from now on.

    SIGINT too is set explicitly: a job that a shell script puts into the background starts with it ignored.
    SIGHUP stays ignored where it is: that is what nohup is for.
    """
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Raise what `raise_on_signals` would raise in this block only at its end.

    Not by blocking the signals: a process started in the block would inherit that.
    """
    noted: list[int] = []
    replaced = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if replaced[number] is _interrupt:
            signal.signal(number, lambda number, _frame: noted.append(number))
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
    if noted:
        raise Interrupted(noted[0])


def check_interrupts() -> None:
    """Raise `Interrupted` if a signal came. To be called where we poll.

    Python drops an exception that a signal handler raises while an object is being finalised.
    """
    if _received:
        raise Interrupted(_received[0])


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise Interrupted(number)
