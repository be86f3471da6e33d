"""A repository with a placement, as tritonserver runs it."""

import queue
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise

import numpy as np
import pytest
import tritonclient.grpc

from commands import build
from swiftdiffusion_build.layout import Layout

STEPS = 40
PLACEMENT = """\
text_encoder = "cpu"
vae_decoder = "cpu"
lanes = { first = "cpu", second = "cpu" }
controlnets = { edges = "cpu", layout = "cpu" }
"""


@pytest.fixture(scope="module")
def two_lanes(serve, tmp_path_factory):
    """A server with two lanes that share the other models."""
    folder = tmp_path_factory.mktemp("two_lanes")
    file = folder / "placement.toml"
    file.write_text(PLACEMENT)
    build.work(
        build.parse_options(["--engine", "torch", "--gpus", "0", "--placement", str(file), "--out", str(folder)])
    )
    with serve(Layout(folder).model_repository) as server:
        yield server


def test_two_lanes_draw_the_same_picture(two_lanes, ask_server, references):
    def ask(_):
        return ask_server(
            two_lanes,
            prompt="a large red circle",
            seed=3,
            steps=4,
            controlnets="edges",
            control_images=references["edges"],
        )[0]

    with ThreadPoolExecutor(2) as threads:
        first, *others = threads.map(ask, range(4))
    for other in others:
        np.testing.assert_array_equal(first, other)
    log = two_lanes.settings.log.read_text()
    for instance in ("first_0", "second_0"):
        assert f"TRITONBACKEND_ModelInstanceInitialize: {instance} (CPU device 0)" in log


def test_two_lanes_take_turns_at_a_controlnet(two_lanes, ask_server, references):
    """Of two requests at a time each has its steps computed between the other's, and none waits for the other's end."""

    def ask(seed):
        inputs = {"prompt": "a large red circle", "seed": seed, "steps": STEPS, "trace": True}
        _, info = ask_server(two_lanes, **inputs, controlnets="edges", control_images=references["edges"])
        return [span["start"] for span in info["spans"] if span["name"] == "controlnet" and "edges on" in span["track"]]

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(ask, range(2))
    assert len(first) == len(second) == STEPS
    begin, end = max(first[0], second[0]), min(first[-1], second[-1])
    shares = [len([start for start in starts if begin <= start <= end]) for starts in (first, second)]
    assert min(shares) >= STEPS / 3, "both were at their steps at the same time"
    assert max(shares) <= 2 * min(shares)
    order = [which for _, which in sorted([*((start, 0) for start in first), *((start, 1) for start in second)])]
    turns = sum(one != other for one, other in pairwise(order))
    assert turns >= min(shares), "they interleave"


def test_two_lanes_draw_two_streams(two_lanes, make_inputs):
    """The second one's first step comes while the first one is at its steps."""
    with ExitStack() as stack:
        streams: list[queue.Queue] = [queue.Queue() for _ in range(2)]
        for seed, responses in enumerate(streams):
            client = stack.enter_context(tritonclient.grpc.InferenceServerClient(two_lanes.grpc_url))
            client.start_stream(lambda result, error, responses=responses: responses.put((result, error)))
            stack.callback(client.stop_stream, cancel_requests=True)
            inputs = {"prompt": "a large red circle", "seed": seed, "steps": 100, "preview_every": 0}
            client.async_stream_infer("swiftdiffusion_stream", make_inputs(tritonclient.grpc, inputs))
            result, error = responses.get(timeout=60)
            assert error is None
            assert result.as_numpy("step").tolist() == [1]
        first = [streams[0].get_nowait() for _ in range(streams[0].qsize())]
        assert all(error is None and result.as_numpy("image") is None for result, error in first), "it has ended"
