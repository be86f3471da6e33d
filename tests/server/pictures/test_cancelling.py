"""A request that nobody waits for any more stops within a step, and the next one starts."""

import re
import time
import urllib.request

import pytest

# some 10 s of work on two cores: long enough to tell a stop from an end
LONG = {"prompt": "a small cyan circle", "seed": 1, "steps": 100, "width": 256, "height": 256, "preview_every": 0}
FAST = LONG | {"width": 64, "height": 64, "guidance_scale": 1.0}  # its steps are shorter than the relay's quiet wait
QUICK = {"prompt": "a small cyan circle", "seed": 1, "steps": 1}
BOUND_S = 60.0


@pytest.fixture
def full_seconds(ask):
    """How long `LONG` takes when it is let be, from ten of its steps."""
    start = time.monotonic()
    ask(**LONG | {"steps": 10})
    return 10 * (time.monotonic() - start)


@pytest.fixture
def count(http):
    """How often a model has run: the text encoder once for a picture that is begun, the VAE once for one that ends."""
    return lambda model: int(http.get_inference_statistics(model)["model_stats"][0]["execution_count"])


@pytest.fixture
def count_waiting(server):
    """How many requests wait for the lane."""

    def count_waiting():
        with urllib.request.urlopen(server.metrics_url, timeout=BOUND_S) as answer:
            metrics = answer.read().decode()
        found = re.search(r'nv_inference_pending_request_count{model="swiftdiffusion",[^}]*} (\d+)', metrics)
        assert found is not None
        return int(found[1])

    return count_waiting


def wait_until(condition):
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_lane_is_free(ask, full_seconds):
    start = time.monotonic()
    ask(**QUICK)
    assert time.monotonic() - start < full_seconds / 3


def test_a_cancelled_call(ask, start_grpc, full_seconds, count):
    begun = count("text_encoder")
    answers, call = start_grpc(**LONG)
    wait_until(lambda: count("text_encoder") > begun)
    call.cancel()
    result, error = answers.get(timeout=BOUND_S)
    assert result is None
    assert "cancelled" in error.message().lower()
    assert_lane_is_free(ask, full_seconds)


def test_a_call_past_its_deadline(ask, start_grpc, full_seconds, count):
    begun = count("text_encoder")
    answers, _ = start_grpc(**LONG, deadline_s=full_seconds / 10)
    result, error = answers.get(timeout=BOUND_S)
    assert result is None
    assert "deadline" in error.message().lower()
    assert count("text_encoder") > begun, "it had not begun"
    assert_lane_is_free(ask, full_seconds)


def test_a_cancelled_stream(ask, grpc, start_stream, full_seconds):
    responses = start_stream(**LONG)
    responses.get(timeout=BOUND_S)
    grpc.stop_stream(cancel_requests=True)
    assert_lane_is_free(ask, full_seconds)


def test_a_cancelled_stream_whose_steps_come_fast(ask, grpc, start_stream, count):
    ended = count("vae_decoder")
    responses = start_stream(**FAST)
    responses.get(timeout=BOUND_S)
    grpc.stop_stream(cancel_requests=True)
    ask(**QUICK)
    assert count("vae_decoder") == ended + 1, "it was drawn to its end"


def test_a_dropped_event_stream(ask, post, full_seconds):
    with post("swiftdiffusion_stream", "generate_stream", **LONG) as response:
        assert response.readline().startswith(b"data: ")
    assert_lane_is_free(ask, full_seconds)


def test_a_call_cancelled_in_the_queue_is_not_drawn(ask, start_grpc, full_seconds, count, count_waiting):
    begun = count("text_encoder")
    first, running = start_grpc(**LONG)
    wait_until(lambda: count("text_encoder") > begun)
    second, waiting = start_grpc(**LONG)
    wait_until(lambda: count_waiting() == 1)
    waiting.cancel()
    running.cancel()
    for answers in (first, second):
        result, error = answers.get(timeout=BOUND_S)
        assert result is None
        assert error is not None
    assert_lane_is_free(ask, full_seconds)
    assert count("text_encoder") == begun + 2, "the first one and that for which the lane was free"
