"""One model that serves a folder of ControlNets, with memory for one at a time."""

import shutil

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from swiftdiffusion.networks.weight_files import count_weights

ASKED = {"prompt": "a large blue square", "seed": 5, "steps": 3}
FP32_BYTES, MEBIBYTE = 4, 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory, weights):
    """A folder of ControlNets."""
    folder = tmp_path_factory.mktemp("controlnets")
    for name in ("edges", "layout"):
        (folder / name).symlink_to(weights / "controlnets" / name)
    return folder


@pytest.fixture
def one_at_a_time(serve, alter_repository, folder):
    """A server with that folder in one model."""
    repository = alter_repository(lambda name, config: None)
    for name in ("edges", "layout"):
        shutil.rmtree(repository / f"controlnet_{name}")
    model = repository / "controlnet_all"
    (model / "1").mkdir(parents=True)
    largest = max(count_weights(folder / name) for name in ("edges", "layout")) * FP32_BYTES
    parameters = {"controlnets": folder, "memory_mb": largest / MEBIBYTE + 0.1, "load_timeout_s": 3, "threads": 1}
    lines = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    (model / "config.pbtxt").write_text("\n".join(['backend: "controlnet"', *lines]))
    with serve(repository) as server:
        yield server


def control(references, *names):
    return {"controlnets": list(names), "control_images": [references[name] for name in names]}


def test_they_take_turns_in_memory(one_at_a_time, folder, ask, ask_server, references, weights):
    right = {name: ask(**ASKED, **control(references, name))[0] for name in references}
    for name in ["edges", "layout"] * 3:
        pixels, info = ask_server(one_at_a_time, **ASKED, **control(references, name))
        np.testing.assert_array_equal(pixels, right[name])
        assert [use["model"] for use in info["controlnets"]] == ["controlnet_all"]

    with pytest.raises(InferenceServerException) as refusal:  # both at once
        ask_server(one_at_a_time, **ASKED, **control(references, "edges", "layout"))
    assert refusal.value.status() == "503"
    assert "found no room within 3 s: 'memory_mb' is" in refusal.value.message()

    (folder / "outlines").symlink_to(weights / "controlnets" / "edges")  # found without a restart
    inputs = {"controlnets": ["outlines"], "control_images": [references["edges"]]}
    np.testing.assert_array_equal(ask_server(one_at_a_time, **ASKED, **inputs)[0], right["edges"])

    with pytest.raises(InferenceServerException) as refusal:
        ask_server(one_at_a_time, **ASKED, **{**inputs, "controlnets": ["depth"]})
    assert refusal.value.status() == "404"
    assert "'depth'; served: edges, layout, outlines" in refusal.value.message()
