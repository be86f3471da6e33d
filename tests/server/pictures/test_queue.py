"""A full queue and a passed deadline are answered as Triton's conventions say."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from tritonclient.utils import InferenceServerException

LONG = {"prompt": "a small cyan circle", "seed": 1, "steps": 60, "width": 192, "height": 192}


@pytest.fixture
def short_queue(serve, alter_repository):
    """A server whose lane lets one request wait."""

    def alter(name, config):
        if name == "swiftdiffusion":
            config.dynamic_batching.default_queue_policy.max_queue_size = 1

    with serve(alter_repository(alter)) as server:
        yield server


def test_a_full_queue_answers_at_once(short_queue, ask_server):
    def ask(_):
        try:
            return ask_server(short_queue, **LONG)[0].shape
        except InferenceServerException as error:
            return error.status(), error.message()

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(ask, range(6)))
    served = [answer for answer in answers if answer == (192, 192, 3)]
    refused = [answer for answer in answers if answer != (192, 192, 3)]
    assert len(served) >= 2
    assert refused
    for status, message in refused:
        assert status == "503"
        assert "Exceeds maximum queue size" in message


def test_a_request_waits_no_longer_than_it_said(ask, start_grpc):
    answers, _ = start_grpc(**LONG)
    with pytest.raises(InferenceServerException) as refusal:
        while answers.empty():  # until one finds the lane taken
            ask(timeout=1000, **LONG | {"steps": 1})
    assert "timeout expired" in refusal.value.message().lower()
    result, error = answers.get(timeout=60)
    assert error is None
    assert result.as_numpy("image") is not None
