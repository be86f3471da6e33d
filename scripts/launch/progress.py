"""One live line that says what is going on and for how long."""

import shutil
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

TICK_SECONDS = 0.2
REPEAT_SECONDS = 15.0  # where there is no terminal: a line each so often, so that a log shows life


class Progress:
    """Shows `activity`, a changing detail and the seconds so far until the block ends.

    On a terminal one line is rewritten, if `live`; else a line is printed at the start, sometimes, and at the end.
    """

    def __init__(self, activity: str, *, live: bool = True) -> None:
        self._activity = activity
        self._detail = ""
        self._conclusion = ""
        self._started = self._last_print = time.monotonic()
        self._live = live and sys.stderr.isatty()
        self._done = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    @property
    def seconds(self) -> float:
        """Seconds since the activity began."""
        return time.monotonic() - self._started

    def update(self, detail: str) -> None:
        """Say how far it is."""
        self._detail = detail

    def conclude(self, conclusion: str) -> None:
        """Say what came of it, for the last line."""
        self._conclusion = f"{conclusion}, "

    def __enter__(self) -> "Progress":
        """Begin to show the line."""
        self._started = self._last_print = time.monotonic()
        if self._live:
            self._ticker.start()
        else:
            self._print(f"{self._activity} …")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Replace the line by what came of it."""
        self._done.set()
        if self._live:
            self._ticker.join()
        outcome = f"{self._conclusion}{self.seconds:.1f} s" if error is None else f"stopped after {self.seconds:.1f} s"
        self._print(("\r\033[K" if self._live else "") + f"{self._activity}: {outcome}")

    def pulse(self) -> None:
        """Give a sign of life in a log, where no line is rewritten. Callers that poll call it each time."""
        if not self._live and time.monotonic() - self._last_print > REPEAT_SECONDS:
            self._print(f"{self._line()}")

    def _tick(self) -> None:
        while not self._done.wait(TICK_SECONDS):
            width = shutil.get_terminal_size().columns - 1
            with suppress(OSError):
                sys.stderr.write("\r\033[K" + self._line()[:width])
                sys.stderr.flush()

    def _line(self) -> str:
        detail = f": {self._detail}" if self._detail else ""
        return f"{self._activity}{detail} ({self.seconds:.0f} s)"

    def _print(self, line: str) -> None:
        self._last_print = time.monotonic()
        with suppress(OSError):  # the terminal may be gone; what is to be done is done all the same
            print(line, file=sys.stderr, flush=True)
