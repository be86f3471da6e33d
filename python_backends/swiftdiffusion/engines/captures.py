"""An engine's captures, for several shapes of inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from swiftdiffusion.engines.capture import Capture


@dataclass
class _Kept:
    capture: Capture
    lent: bool = True


class Captures:
    """So many captures, and more only while all are lent; the least recently used that is free is dropped first.

    For any threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[_Kept] = []  # the most recently used last
        self._lock = threading.Lock()

    def borrow(self, inputs: Sequence[Any], make: Callable[[], Capture]) -> Capture:
        """One that takes `inputs`, the borrower's alone until `give_back`; `make` gives one where none is free."""
        with self._lock:
            for place in reversed(range(len(self._kept))):
                kept = self._kept[place]
                if not kept.lent and kept.capture.takes(inputs):
                    kept.lent = True
                    self._kept.append(self._kept.pop(place))
                    return kept.capture
            self._drop(self._most - 1)
            self._kept.append(_Kept(make()))
            return self._kept[-1].capture

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
                kept.capture.forget()

    def _drop(self, most: int) -> None:
        too_many = len(self._kept) - most
        if too_many > 0:
            for kept in [kept for kept in self._kept if not kept.lent][:too_many]:
                self._kept.remove(kept)
