"""One request, one response: what HTTP ``/infer`` and unary gRPC need, in front of the model that streams."""

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

Arrays = Mapping[str, NDArray[Any]]
CANCEL_POLL_S = 0.05


@dataclass(frozen=True)
class FrontConfiguration:
    """`swiftdiffusion`'s parameters."""

    stream: str = "swiftdiffusion_stream"  # the model that draws
    timeout_s: float = 600.0  # how long an answer is waited for

    def __post_init__(self) -> None:
        require_range("timeout_s", self.timeout_s, 1, 86_400)


def relay(
    start: Callable[[Mapping[str, str]], Future[dict[str, NDArray[Any]]]],
    is_cancelled: Callable[[], bool],
    timeout_s: float,
) -> dict[str, NDArray[Any]]:
    """Have the streaming model draw, and stop it when the sender gives up.

    Args:
        start: starts the call with the request parameters given to it.
        is_cancelled: whether the sender has given up.
        timeout_s: seconds after which the answer is no longer waited for.

    Raises:
        Cancelled: the sender gave up.
        Unavailable: no answer in time.
        SwiftDiffusionError: the drawing model's own refusal.
    """
    if is_cancelled():
        raise Cancelled("the request was cancelled by its sender")
    deadline = time.monotonic() + timeout_s
    with Lifeline() as lifeline:  # leaving this block, for whatever reason, ends the drawing
        answer = start({PARAMETER: lifeline.token})
        while not wait([answer], CANCEL_POLL_S).done:
            if is_cancelled():
                raise Cancelled("the request was cancelled by its sender")
            if time.monotonic() > deadline:
                raise Unavailable(f"no picture within {timeout_s:g} s; the request was stopped")
        return answer.result()
