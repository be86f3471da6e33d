"""Many responses to one request: the streaming model calls the lane, and passes its progress on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from swiftdiffusion.configuration import require_range
from swiftdiffusion.errors import Cancelled, Unavailable
from swiftdiffusion.lifeline import PARAMETER, Lifeline
from swiftdiffusion.request.result import Progress

LOOK_S = 0.05  # how often a quiet wait looks whether the sender is still there


@dataclass(frozen=True)
class RelayConfiguration:
    """`swiftdiffusion_stream`'s parameters."""

    lane: str = "swiftdiffusion"  # the model that draws
    timeout_s: float = 600.0  # how long its answer is waited for

    def __post_init__(self) -> None:
        require_range("timeout_s", self.timeout_s, 1, 86_400)


def relay(
    start: Callable[[Mapping[str, str]], Future[dict[str, NDArray[Any]]]],
    is_cancelled: Callable[[], bool],
    report: Callable[[Progress], None],
    timeout_s: float,
) -> dict[str, NDArray[Any]]:
    """Have the lane draw, report its steps, and stop it when the sender gives up.

    Args:
        start: starts the call with the request parameters given to it.
        is_cancelled: whether the sender has given up.
        report: called after every step.
        timeout_s: seconds after which the answer is no longer waited for.

    Raises:
        Cancelled: the sender gave up.
        Unavailable: no answer in time.
        SwiftDiffusionError: the lane's own refusal.
    """
    if is_cancelled():
        raise Cancelled
    deadline = time.monotonic() + timeout_s
    with Lifeline() as lifeline:  # leaving this block, for whatever reason, ends the drawing
        answer = start({PARAMETER: lifeline.token})
        while message := _next_message(lifeline, answer, is_cancelled, deadline, timeout_s):
            report(Progress.unpack(message))
        return answer.result()


def _next_message(
    lifeline: Lifeline, answer: Future[Any], is_cancelled: Callable[[], bool], deadline: float, timeout_s: float
) -> bytes | None:
    """The next step's message; None once the answer is there and all messages are read."""
    while not answer.done():
        if is_cancelled():  # asked before every message: they may come faster than a quiet wait ends
            raise Cancelled
        if time.monotonic() > deadline:
            raise Unavailable(f"no picture within {timeout_s:g} s; the request was stopped")
        if message := lifeline.receive(LOOK_S):
            return message
        wait([answer], LOOK_S / 50)  # the lane lets go of its end just before its answer is here
    return lifeline.receive(0)  # what was sent before the answer is there to be read
