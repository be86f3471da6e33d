from concurrent.futures import Future
from itertools import repeat
from threading import Event, Thread

import pytest

from swiftdiffusion.errors import Cancelled, NotFound, Unavailable
from swiftdiffusion.lifeline import PARAMETER, Holder
from swiftdiffusion.relay import relay
from swiftdiffusion.request.result import Progress

STEPS = [Progress(1, 2, 0.5, b""), Progress(2, 2, 1.0, b"jpeg")]


class Lane:
    """A stand-in for the drawing model: sends its steps, then works until its lifeline is cut or it has an answer."""

    def __init__(self, steps=(), step_s=0.0):
        self.answer: Future = Future()
        self.stopped = Event()
        self.steps, self.step_s = steps, step_s
        self.result: dict | Exception | None = None

    def start(self, parameters):
        def work():
            with Holder(parameters[PARAMETER]) as holder:
                for step in self.steps:
                    holder.send(step.pack())
                    if holder.is_cut(self.step_s):
                        break
                while self.result is None and not holder.is_cut():
                    self.stopped.wait(0.005)
            if isinstance(self.result, Exception):
                self.answer.set_exception(self.result)
            elif self.result is not None:
                self.answer.set_result(self.result)
            self.stopped.set()

        Thread(target=work, daemon=True).start()
        return self.answer


def never(progress):
    pytest.fail(f"reported {progress}")


def run(lane, is_cancelled=lambda: False, timeout_s=5.0):
    reported: list = []
    return relay(lane.start, is_cancelled, reported.append, timeout_s), reported


def test_steps_and_answer_pass():
    lane = Lane(STEPS)
    lane.result = {"image": b"x"}
    assert run(lane) == ({"image": b"x"}, STEPS)


def test_a_refusal_passes():
    lane = Lane()
    lane.result = NotFound("no such LoRA")
    with pytest.raises(NotFound, match="no such LoRA"):
        run(lane)


def test_a_refusal_from_before_the_lane_passes():
    refused: Future = Future()
    refused.set_exception(Unavailable("Exceeds maximum queue size"))
    with pytest.raises(Unavailable, match="queue"):
        relay(lambda _: refused, lambda: False, never, 5)


def test_cancelling_stops_the_lane():
    lane, looks = Lane(), iter([False, False, True])
    with pytest.raises(Cancelled):
        run(lane, lambda: next(looks))
    assert lane.stopped.wait(5)


@pytest.mark.parametrize(("looks", "timeout_s", "error"), [(5, 60.0, Cancelled), (None, 0.2, Unavailable)])
def test_a_lane_whose_steps_come_fast_is_stopped_too(looks, timeout_s, error):
    lane = Lane([Progress(number, 400, 0.0, b"") for number in range(1, 401)], step_s=0.005)
    lane.result = {"image": b"x"}
    reported: list = []
    left = iter([False] * looks) if looks else repeat(False)
    with pytest.raises(error):
        relay(lane.start, lambda: next(left, True), reported.append, timeout_s)
    assert lane.stopped.wait(5)
    assert len(reported) < (looks or len(lane.steps))


def test_a_request_cancelled_in_the_queue_is_not_started():
    with pytest.raises(Cancelled):
        relay(lambda _: pytest.fail("started"), lambda: True, never, 5)


def test_no_answer_in_time():
    lane = Lane()
    with pytest.raises(Unavailable, match=r"0\.1 s"):
        run(lane, timeout_s=0.1)
    assert lane.stopped.wait(5)


def test_a_receiver_that_fails_stops_the_lane():
    def fail(progress):
        raise ConnectionError("the sender's line broke")

    lane = Lane(STEPS)
    with pytest.raises(ConnectionError):
        relay(lane.start, lambda: False, fail, 5)
    assert lane.stopped.wait(5)
