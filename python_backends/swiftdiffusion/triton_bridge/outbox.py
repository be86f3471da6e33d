"""Answers that are made and sent beside the lane, which draws the next picture meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from swiftdiffusion.triton_bridge.bridge import Bridge


class Outbox:
    """One answer after the other, on a thread of its own."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._last: Future[None] | None = None

    def send(self, request: Any, make: Callable[[], Any]) -> None:
        """Have the request answered with what `make` gives, or with why it cannot.

        Waits until the answer before has been sent, so that no more than one is kept.
        """
        if self._last is not None:
            wait([self._last])
        self._last = self._thread.submit(self._send, request.get_response_sender(), make)

    def close(self) -> None:
        """Wait for the last answer and end the thread."""
        self._thread.shutdown()

    def _send(self, sender: Any, make: Callable[[], Any]) -> None:
        try:
            sender.send(make(), flags=self._bridge.final_flag)
        except Exception as error:  # every fault becomes an answer, also that one was too large to be sent
            sender.send(self._bridge.refuse(error), flags=self._bridge.final_flag)
