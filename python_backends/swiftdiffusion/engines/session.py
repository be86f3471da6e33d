"""One picture's use of an engine that others use too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Session(Protocol):
    """A network with its steady inputs given (see `Network`), to be stepped; for one thread, on its current stream.

    Other sessions of the same engine may run at the same time. Weights must not change meanwhile.
    """

    def step(self, *moving: Any) -> Any:
        """Run the network on the other inputs; the results hold until the next step or `close`."""

    def close(self) -> None:
        """Let others have what this session holds; its work must be done."""


class SimpleSession:
    """A session that holds nothing but its inputs."""

    def __init__(self, step: Callable[..., Any], held: tuple[Any, ...]) -> None:
        """Args: what runs a step, and what it gets after the moving inputs."""
        self._step, self._held = step, held

    def step(self, *moving: Any) -> Any:
        """Run a step."""
        return self._step(*moving, *self._held)

    def close(self) -> None:
        """Nothing to let go of."""
