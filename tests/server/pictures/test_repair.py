"""A ControlNet whose process dies or hangs fails its requests quickly, hurts no other, and comes back by itself."""

import os
import queue
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from swiftdiffusion.lane_configuration import LaneConfiguration

EDGES = "controlnet_edges"
BOUND_S = LaneConfiguration.controlnet_timeout_s + 1
BACK_S = 120.0  # most of it importing torch, on a busy machine
PLAIN = {"prompt": "a large red circle", "seed": 3, "steps": 3}
LONG = {"steps": 100, "width": 256, "height": 256, "preview_every": 0}


@pytest.fixture(scope="module")
def own_server(serve):
    """A server for these tests alone."""
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def ask_own(own_server, ask_server):
    return lambda **inputs: ask_server(own_server, **inputs)


@pytest.fixture(scope="module")
def edges(references):
    return {"controlnets": "edges", "control_images": references["edges"]}


@pytest.fixture(scope="module")
def pictures(ask_own, edges):
    """What is right: without and with the ControlNet."""
    return ask_own(**PLAIN)[0], ask_own(**PLAIN, **edges)[0]


def read_arguments(process):
    try:
        return (process / "cmdline").read_text().split("\0")
    except OSError:  # ended meanwhile
        return [""]


def find_stub(server, model):
    """The process of the only instance of a model."""
    for process in Path("/proc").glob("[0-9]*"):
        program, *arguments = read_arguments(process)
        if program.endswith("triton_python_backend_stub") and f"/{model}/" in arguments[0]:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if f"--http-port={server.settings.ports.http}" in read_arguments(Path("/proc", parent)):
                return int(process.name)
    return None


def count_segments(server):
    stub = find_stub(server, "swiftdiffusion")
    prefix = read_arguments(Path("/proc", str(stub)))[2][: -len("01234567-0123-0123-0123-0123456789ab")]
    return len(list(Path("/dev/shm").glob(f"{prefix}*")))


def start_long(server, make_inputs, **inputs):
    """A request that is at its steps; its responses."""
    responses: queue.Queue = queue.Queue()
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
    client.start_stream(lambda result, error: responses.put((result, error)))
    client.async_stream_infer("swiftdiffusion_stream", make_inputs(tritonclient.grpc, {**PLAIN, **LONG, **inputs}))
    result, error = responses.get(timeout=60)
    assert error is None, error
    assert result is not None
    return client, responses


def wait_for_error(responses):
    while True:
        result, error = responses.get(timeout=60)
        if error is not None:
            return error.message()
        assert result.as_numpy("image") is None, "the request ended well"


def ask_until_back(ask_own, edges):
    """The first picture with the ControlNet; until then each request is refused, and says why."""
    deadline = time.monotonic() + BACK_S
    while True:
        try:
            return ask_own(**PLAIN, **edges)[0]
        except InferenceServerException as error:
            assert error.status() == "503"
            assert "'edges'" in error.message()
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGKILL] * 3 + [signal.SIGSTOP] * 2)
def test_a_process_lost_at_work(own_server, ask_own, make_inputs, edges, pictures, number):
    segments = count_segments(own_server)
    client, responses = start_long(own_server, make_inputs, **edges)
    with client:
        lost = find_stub(own_server, EDGES)
        os.kill(lost, number)
        start = time.monotonic()
        message = wait_for_error(responses)
        assert time.monotonic() - start < BOUND_S
    assert "UNAVAILABLE" in message
    assert "'edges'" in message
    np.testing.assert_array_equal(ask_own(**PLAIN)[0], pictures[0])
    np.testing.assert_array_equal(ask_until_back(ask_own, edges), pictures[1])
    assert find_stub(own_server, EDGES) != lost
    assert count_segments(own_server) == segments


def test_a_process_lost_while_idle(own_server, ask_own, edges, pictures):
    segments = count_segments(own_server)
    os.kill(find_stub(own_server, EDGES), signal.SIGKILL)
    np.testing.assert_array_equal(ask_until_back(ask_own, edges), pictures[1])
    assert count_segments(own_server) == segments


def test_others_notice_nothing_while_it_is_loaded_anew(own_server, ask_own, edges, pictures):
    """Requests without it, over a connection that was open before, are answered while the model is not there."""
    over = threading.Event()
    answered_meanwhile = 0
    os.kill(find_stub(own_server, EDGES), signal.SIGKILL)

    def come_back():
        ask_until_back(ask_own, edges)
        over.set()

    waiting = threading.Thread(target=come_back)
    with tritonclient.http.InferenceServerClient(own_server.http_url) as client:
        assert client.is_server_live()
        waiting.start()
        while not over.is_set():
            start = time.monotonic()
            np.testing.assert_array_equal(ask_own(**PLAIN)[0], pictures[0])
            away = not client.is_model_ready(EDGES)
            answered_meanwhile += away
            assert time.monotonic() - start < BACK_S / 4
    waiting.join()
    assert answered_meanwhile >= 1
