"""How a step says what it does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """Something under way."""

    def update(self, detail: str) -> None:
        """Say how far it is."""

    def conclude(self, conclusion: str) -> None:
        """Say what came of it."""


# Opens something under way, by what a person calls it.
Begin = Callable[[str], AbstractContextManager[Progress]]
