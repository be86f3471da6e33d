"""A ControlNet whose process lives but answers nothing: its requests fail in time, and it is killed and loaded anew."""

import time
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from launch.paths import PYTHON_BACKENDS
from swiftdiffusion.triton_bridge.stubs import STUB, read_arguments

HANGING = Path(__file__).resolve().parents[1] / "hanging" / "python_backends"
EDGES = "controlnet_edges"
ASKED = {"prompt": "a large red circle", "seed": 3, "steps": 3}
CALL_S, SILENCE_S, PATIENCE_S = 20.0, 2.0, 1.0  # a call's share is far more than one takes on a busy machine
BACK_S = 120.0


@pytest.fixture
def repository(alter_repository, set_parameter):
    def alter(name, config):
        if name == "swiftdiffusion":
            set_parameter(config, "service_timeout_s", str(CALL_S))
            set_parameter(config, "controlnet_timeout_s", str(SILENCE_S))
            set_parameter(config, "controlnet_patience_s", str(PATIENCE_S))

    return alter_repository(alter)


@pytest.fixture
def server(serve, repository, tmp_path):
    """A server whose ControlNets can be made to hang."""
    backends = tmp_path / "backends"
    backends.mkdir()
    for model in PYTHON_BACKENDS.glob("*/model.py"):
        own = HANGING / model.parent.name
        (backends / model.parent.name).symlink_to(own if own.exists() else model.parent)
    with serve(repository, python_backends=backends) as server:
        yield server


def find_stub(repository):
    """The process of the only instance of `EDGES` in this repository."""
    code = str(repository / EDGES / "1" / "model.py")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            program, *arguments = read_arguments(int(process.name))
        except (OSError, ValueError):  # ended meanwhile
            continue
        if Path(program).name == STUB and arguments[0] == code:
            return int(process.name)
    return None


def ask_until_back(ask):
    deadline = time.monotonic() + BACK_S
    while True:
        try:
            return ask()
        except InferenceServerException as error:
            assert (error.status(), "'edges'" in error.message()) == ("503", True)
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_one_that_hangs_is_loaded_anew(server, repository, ask_server, references):
    steered = {**ASKED, "controlnets": "edges", "control_images": references["edges"]}
    plain_picture, picture = (ask_server(server, **inputs)[0] for inputs in (ASKED, steered))
    hung = find_stub(repository)
    (repository / EDGES / "hang").write_text(str(hung))

    start = time.monotonic()
    with pytest.raises(InferenceServerException) as refusal:
        ask_server(server, **steered)
    assert time.monotonic() - start < SILENCE_S + 1
    assert refusal.value.status() == "503"
    assert "ControlNet 'edges' did not answer within 2 s" in refusal.value.message()

    np.testing.assert_array_equal(ask_server(server, **ASKED)[0], plain_picture)
    np.testing.assert_array_equal(ask_until_back(lambda: ask_server(server, **steered)[0]), picture)
    assert find_stub(repository) not in (hung, None)
    assert f"model '{EDGES}' was lost and is loaded again" in server.settings.log.read_text()
