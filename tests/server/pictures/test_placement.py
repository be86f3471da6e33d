"""A repository with a placement, as tritonserver runs it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from commands import build
from swiftdiffusion_build.layout import Layout

PLACEMENT = """\
text_encoder = "cpu"
vae_decoder = "cpu"
lanes = { first = "cpu", second = "cpu" }
controlnets = { edges = "cpu", layout = "cpu" }
"""


@pytest.fixture
def two_lanes(serve, tmp_path):
    """A server with two lanes that share the other models."""
    file = tmp_path / "placement.toml"
    file.write_text(PLACEMENT)
    build.work(
        build.parse_options(["--engine", "torch", "--gpus", "0", "--placement", str(file), "--out", str(tmp_path)])
    )
    with serve(Layout(tmp_path).model_repository) as server:
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
