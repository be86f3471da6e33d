"""A request that nobody waits for any more stops within a step, and the next one starts."""

import time

import pytest

# some 10 s of work on two cores: long enough to tell a stop from an end
LONG = {"prompt": "a small cyan circle", "seed": 1, "steps": 100, "width": 256, "height": 256, "preview_every": 0}
QUICK = {"prompt": "a small cyan circle", "seed": 1, "steps": 1}


@pytest.fixture
def full_seconds(ask):
    """How long `LONG` takes when it is let be, from ten of its steps."""
    start = time.monotonic()
    ask(**LONG | {"steps": 10})
    return 10 * (time.monotonic() - start)


def assert_lane_is_free(ask, full_seconds):
    start = time.monotonic()
    ask(**QUICK)
    assert time.monotonic() - start < full_seconds / 3


def test_a_cancelled_call(ask, start_grpc, full_seconds):
    answers, call = start_grpc(**LONG)
    time.sleep(full_seconds / 20)  # let it get to work
    call.cancel()
    result, error = answers.get(timeout=60)
    assert result is None
    assert "cancelled" in error.message().lower()
    assert_lane_is_free(ask, full_seconds)


def test_a_call_past_its_deadline(ask, start_grpc, full_seconds):
    answers, _ = start_grpc(**LONG, deadline_s=full_seconds / 20)
    result, error = answers.get(timeout=60)
    assert result is None
    assert "deadline" in error.message().lower()
    assert_lane_is_free(ask, full_seconds)


def test_a_cancelled_stream(ask, grpc, start_stream, full_seconds):
    responses = start_stream(**LONG)
    responses.get(timeout=60)
    grpc.stop_stream(cancel_requests=True)
    assert_lane_is_free(ask, full_seconds)


def test_a_dropped_event_stream(ask, post, full_seconds):
    with post("swiftdiffusion_stream", "generate_stream", **LONG) as response:
        assert response.readline().startswith(b"data: ")
    assert_lane_is_free(ask, full_seconds)


def test_a_call_cancelled_in_the_queue_is_not_drawn(ask, http, start_grpc, full_seconds):
    (first, running), (second, waiting) = start_grpc(**LONG), start_grpc(**LONG)
    time.sleep(full_seconds / 20)
    waiting.cancel()
    running.cancel()
    for answers in (first, second):
        result, error = answers.get(timeout=60)
        assert result is None
        assert error is not None
    assert_lane_is_free(ask, full_seconds)
