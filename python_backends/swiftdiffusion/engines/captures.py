"""An engine's captures, by the shapes of their inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from swiftdiffusion.engines.capture import Capture


@dataclass
class _Kept:
    key: Hashable
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

    def borrow(self, key: Hashable, make: Callable[[], Capture]) -> Capture:
        """A capture for `key` that is the borrower's alone until `give_back`; `make` gives one where none is free."""
        with self._lock:
            kept = next((kept for kept in self._kept if kept.key == key and not kept.lent), None)
            if kept is not None:
                kept.lent = True
                self._kept.remove(kept)
            else:
                self._drop(self._most - 1)
                kept = _Kept(key, make())
            self._kept.append(kept)
            return kept.capture

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
        for kept in [kept for kept in self._kept if not kept.lent][: max(0, len(self._kept) - most)]:
            self._kept.remove(kept)
