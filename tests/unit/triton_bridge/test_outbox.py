"""Answers beside the lane, with Triton's side played by Python: its stub is not to be had outside a server."""

import threading
from types import SimpleNamespace
from typing import Any

from swiftdiffusion.triton_bridge.outbox import Outbox

FINAL = 1


class Request:
    """What an outbox uses of Triton's; `sent` has what was sent to it."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, int]] = []

    def get_response_sender(self) -> Any:
        return SimpleNamespace(send=lambda response, flags: self.sent.append((response, flags)))


def open_outbox() -> Outbox:
    bridge: Any = SimpleNamespace(final_flag=FINAL, refuse=lambda error: f"refused: {error}")
    return Outbox(bridge)


def test_who_sends_does_not_wait_for_the_making() -> None:
    outbox, goes_on = open_outbox(), threading.Event()
    first, second = Request(), Request()
    outbox.send(first, lambda: ("late", goes_on.wait(10)))
    assert not first.sent
    goes_on.set()
    outbox.send(second, lambda: "second")
    assert first.sent == [(("late", True), FINAL)], "the one before has gone"
    outbox.close()
    assert second.sent == [("second", FINAL)], "what is left goes before the end"


def test_what_cannot_be_sent_is_refused() -> None:
    sent: list[Any] = []

    def send(response: Any, flags: int) -> None:
        if response == "large":
            raise MemoryError("no room")
        sent.append((response, flags))

    outbox = open_outbox()
    request: Any = SimpleNamespace(get_response_sender=lambda: SimpleNamespace(send=send))
    outbox.send(request, lambda: "large")
    outbox.close()
    assert sent == [("refused: no room", FINAL)]


def test_what_cannot_be_made_is_refused_and_the_next_goes() -> None:
    outbox = open_outbox()
    first, second = Request(), Request()
    outbox.send(first, lambda: 1 // 0)
    outbox.send(second, lambda: "well")
    outbox.close()
    assert first.sent == [("refused: integer division or modulo by zero", FINAL)]
    assert second.sent == [("well", FINAL)]
