import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import pytest

from swiftdiffusion.controlnets import repair as module
from swiftdiffusion.controlnets.claim import Claim, is_announced
from swiftdiffusion.controlnets.repair import Repairs
from swiftdiffusion.errors import Lost, NotFound, Unavailable

MODEL = "controlnet_edges"


class Server:
    """One model, whose processes and answers the test decides on."""

    def __init__(self, name, processes=(1,)):
        self.server, self.processes, self.ready = name, frozenset(processes), True
        self.done, self.loads, self.may_load = [], [], threading.Event()
        self.may_load.set()
        self.answer: Exception | str | None = "well"
        self.why_not = ""
        self.dies_at_once = False

    def refusal(self):
        return self.why_not

    def is_ready(self, model):
        return self.ready

    def find_processes(self, model):
        return self.processes

    def is_process(self, model, process):
        return process in self.processes

    def end_processes(self, model):
        self.done.append("end")
        self.processes = frozenset()

    def unload(self, model):
        self.done.append("unload")
        self.ready = False

    def load(self, model):
        assert self.may_load.wait(10)
        self.loads.append(time.monotonic())
        if isinstance(self.answer, Unavailable) and "load" in str(self.answer):
            raise self.answer
        self.done.append("load")
        self.ready, self.answer = True, "well"
        self.processes = frozenset() if self.dies_at_once else frozenset({len(self.loads) + 100})

    def clean_up(self):
        self.done.append("clean up")

    def ask(self, model):
        future: Future = Future()
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        elif self.answer is not None:
            future.set_result({})
        return future


REPAIR = ["end", "unload", "load", "clean up"]


@pytest.fixture
def server(request):
    return Server(request.node.name)


@pytest.fixture
def repairs(server):
    repairs = Repairs(server, server.ask, patience_s=0.2)
    yield repairs
    repairs.close()


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def idle(repairs):
    wait_until(lambda: not any(record.thread and record.thread.is_alive() for record in repairs._records.values()))


def fail(repairs):
    with pytest.raises(Unavailable), repairs.watch([MODEL]):
        raise Unavailable("no residuals")


def test_a_model_without_a_process_is_loaded_anew(server, repairs):
    server.processes = frozenset()
    fail(repairs)
    idle(repairs)
    assert server.done == REPAIR
    assert repairs.is_usable(MODEL)


def test_a_model_with_fewer_processes_than_it_had_is_loaded_anew(server, repairs):
    server.processes = frozenset({1, 2})
    with repairs.watch([MODEL]):
        pass
    server.processes = frozenset({2})
    fail(repairs)
    idle(repairs)
    assert server.done == REPAIR


@pytest.mark.parametrize("answer", [Lost("died"), None], ids=["died", "hangs"])
def test_a_model_that_does_not_answer_is_loaded_anew(server, repairs, answer):
    server.answer = answer
    fail(repairs)
    idle(repairs)
    assert server.done == REPAIR


@pytest.mark.parametrize("answer", ["well", Unavailable("no room")], ids=["answers", "refuses"])
def test_a_model_that_answers_is_left_alone(server, repairs, answer):
    server.answer = answer
    fail(repairs)
    idle(repairs)
    assert server.done == []


def test_only_what_is_unavailable_is_looked_after(server, repairs):
    server.answer = Lost("died")
    with pytest.raises(NotFound), repairs.watch([MODEL]):
        raise NotFound("no such thing")
    assert server.done == []


def test_a_model_that_was_unloaded_by_others_stays_so(server, repairs):
    server.ready, server.processes = False, frozenset()
    fail(repairs)
    idle(repairs)
    assert server.done == []


def test_a_death_between_requests_is_seen_before_the_model_is_called(server, repairs):
    with repairs.watch([MODEL]):
        pass
    assert repairs.is_usable(MODEL)
    server.processes = frozenset()
    assert not repairs.is_usable(MODEL)
    idle(repairs)
    assert server.done == REPAIR
    assert repairs.is_usable(MODEL)


def test_a_model_that_others_loaded_anew_is_usable(server, repairs):
    with repairs.watch([MODEL]):
        pass
    server.processes = frozenset({7})
    assert repairs.is_usable(MODEL)
    assert server.done == []


def test_one_lane_repairs_and_all_know(server, repairs):
    other = Repairs(server, server.ask, patience_s=0.2)
    server.processes = frozenset()
    server.may_load.clear()
    fail(repairs)
    wait_until(lambda: "unload" in server.done)  # it is the one now, though its thread be slower than the other's
    for _ in range(2):
        fail(repairs)
        fail(other)
    assert not repairs.is_usable(MODEL)
    assert not other.is_usable(MODEL)
    idle(other)
    server.may_load.set()
    idle(repairs)
    assert server.done == REPAIR
    assert other.is_usable(MODEL)


def test_one_that_dies_at_each_load_is_held_back(server, repairs, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.1)
    server.processes, server.dies_at_once = frozenset(), True
    for _ in range(4):
        fail(repairs)
        idle(repairs)
    pauses = [later - earlier for earlier, later in zip(server.loads, server.loads[1:], strict=False)]
    assert [pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


def test_a_request_done_ends_the_holding_back(server, repairs, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 60)
    for number in range(3):
        server.processes = frozenset()
        fail(repairs)
        wait_until(lambda number=number: len(server.loads) == number + 1)
        idle(repairs)
        with repairs.watch([MODEL]):
            pass


def test_a_load_that_fails_is_tried_again(server, repairs, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.05)
    server.processes, server.answer = frozenset(), Unavailable("load failed: no weights")
    fail(repairs)
    wait_until(lambda: len(server.loads) >= 2)
    server.answer = Lost("died")
    idle(repairs)
    assert server.ready


def test_where_it_is_not_allowed_it_is_said_once(server, repairs, caplog):
    server.why_not = "tritonserver was started without this and that"
    server.processes = frozenset()
    for _ in range(3):
        fail(repairs)
    assert server.done == []
    assert [record.message for record in caplog.records if "this and that" in record.message] == [
        f"model '{MODEL}' failed and cannot be repaired: tritonserver was started without this and that"
    ]


def test_a_claim_is_one_processs_and_ends_with_it():
    program = """if True:
        from swiftdiffusion.controlnets.claim import Claim
        with Claim("test claim") as claim:
            claim.announce()
            print(claim.held, flush=True)
            input()"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with Claim("test claim") as claim:
            assert not claim.held
        assert all(is_announced("test claim") for _ in range(300))
        other.kill()
    assert not is_announced("test claim")
    with Claim("test claim") as claim:
        assert claim.held
        assert not is_announced("test claim")  # not yet
