"""Whether the process at the other end of an attached request's lifeline lives."""

from __future__ import annotations

import time

from swiftdiffusion.controlnets.messages import FAILED, News
from swiftdiffusion.errors import Unavailable, from_description
from swiftdiffusion.lifeline import Lifeline


class Pulse:
    """Reads what a ControlNet's process sends, and says when it has been silent for too long."""

    def __init__(self, lifeline: Lifeline, name: str, timeout_s: float) -> None:
        """Args: the lane's end, the ControlNet's name, and the silence in seconds that counts as death."""
        self._lifeline, self._name, self._timeout_s = lifeline, name, timeout_s
        self._heard = time.monotonic()

    def listen(self, seconds: float) -> News | None:
        """The next message, waiting for up to `seconds` (far less than the timeout).

        Raises:
            Unavailable: the process ended, or was silent for longer than the timeout.
            SwiftDiffusionError: what it says has failed.
        """
        ended = self._lifeline.is_let_go()  # asked first: what it sent before is then there to be read
        message = self._lifeline.receive(seconds)
        if message:
            self._heard = time.monotonic()
            news = News.unpack(message)
            if news.state == FAILED:
                raise from_description(news.reason)
            return news
        if ended:
            raise Unavailable(f"ControlNet {self._name!r} ended while it was at work for the request")
        if time.monotonic() - self._heard > self._timeout_s:
            raise Unavailable(f"ControlNet {self._name!r} gave no sign of life for {self._timeout_s:g} s")
        return None

    def check(self) -> None:
        """Read all that has come; raises as `listen` does."""
        while self.listen(0):
            pass
