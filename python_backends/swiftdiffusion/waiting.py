"""Waiting for another model, never for ever."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

from swiftdiffusion.errors import Unavailable

Result = TypeVar("Result")


def wait_for(future: Future[Result], what: str, timeout_s: float) -> Result:
    """The future's result, or what it raised.

    Raises:
        Unavailable: `what` did not answer within `timeout_s` seconds.
    """
    try:
        return future.result(timeout_s)
    except FutureTimeoutError:
        if future.done():  # the answer itself was a timeout
            raise
        raise Unavailable(f"{what} did not answer within {timeout_s:g} s") from None
