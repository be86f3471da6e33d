"""An engine's captures, for several shapes of inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from swiftdiffusion.engines.capture import Capture


@dataclass
class _Kept:
    capture: Capture | None = None  # while it is made
    lent: bool = True


class Captures:
    """So many captures, and more only while all are lent; the least recently used that is free is dropped first.

    For any threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[_Kept] = []  # the most recently used last
        self._lock = threading.Lock()
        self._making = threading.Lock()  # held for seconds, which nobody else has to wait for

    def borrow(self, inputs: Sequence[Any], make: Callable[[], Capture]) -> Capture:
        """One that takes `inputs`, the borrower's alone until `give_back`; `make` gives one where none is free."""
        found = self._find(inputs)
        if found is not None:
            return found
        with self._making:
            found = self._find(inputs)  # given back while another was made
            return self._make(make) if found is None else found

    def give_back(self, capture: Capture) -> None:
        """Let others borrow it."""
        with self._lock:
            for kept in self._kept:
                if kept.capture is capture:
                    kept.lent = False
            self._drop(self._most)

    def forget(self) -> None:
        """Have every capture prepare anew, see `Capture.forget`."""
        with self._lock:
            for kept in self._kept:
                if kept.capture is not None:
                    kept.capture.forget()

    def _find(self, inputs: Sequence[Any]) -> Capture | None:
        with self._lock:
            for place in reversed(range(len(self._kept))):
                kept = self._kept[place]
                if not kept.lent and kept.capture is not None and kept.capture.takes(inputs):
                    kept.lent = True
                    self._kept.append(self._kept.pop(place))
                    return kept.capture
        return None

    def _make(self, make: Callable[[], Capture]) -> Capture:
        kept = _Kept()
        with self._lock:
            self._drop(self._most - 1)
            self._kept.append(kept)
        try:
            kept.capture = make()
        except BaseException:
            with self._lock:
                self._kept.remove(kept)
            raise
        return kept.capture

    def _drop(self, most: int) -> None:
        too_many = len(self._kept) - most
        if too_many > 0:
            for kept in [kept for kept in self._kept if not kept.lent][:too_many]:
                self._kept.remove(kept)
