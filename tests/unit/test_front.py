from concurrent.futures import Future
from threading import Event, Thread

import pytest

from swiftdiffusion.errors import Cancelled, NotFound, Unavailable
from swiftdiffusion.front import relay
from swiftdiffusion.lifeline import PARAMETER, Holder


class Drawing:
    """A stand-in for the streaming model that works until its lifeline is cut."""

    def __init__(self):
        self.answer: Future = Future()
        self.stopped = Event()

    def start(self, parameters):
        holder = Holder(parameters[PARAMETER])

        def work():
            while not holder.is_cut():
                self.stopped.wait(0.005)
            self.stopped.set()

        Thread(target=work, daemon=True).start()
        return self.answer


def test_the_answer_passes():
    drawing = Drawing()
    drawing.answer.set_result({"image": b"x"})
    assert relay(drawing.start, lambda: False, 5) == {"image": b"x"}
    assert drawing.stopped.wait(5)


def test_a_refusal_passes():
    drawing = Drawing()
    drawing.answer.set_exception(NotFound("no such LoRA"))
    with pytest.raises(NotFound, match="no such LoRA"):
        relay(drawing.start, lambda: False, 5)


def test_cancelling_stops_the_drawing():
    drawing, looks = Drawing(), iter([False, False, True])
    with pytest.raises(Cancelled):
        relay(drawing.start, lambda: next(looks), 5)
    assert drawing.stopped.wait(5)


def test_a_request_cancelled_in_the_queue_is_not_started():
    with pytest.raises(Cancelled):
        relay(lambda _: pytest.fail("started"), lambda: True, 5)


def test_no_answer_in_time():
    drawing = Drawing()
    with pytest.raises(Unavailable, match=r"0\.1 s"):
        relay(drawing.start, lambda: False, 0.1)
    assert drawing.stopped.wait(5)
