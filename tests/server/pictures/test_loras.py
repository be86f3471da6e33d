"""LoRAs through the server: in time, in full, and gone without a trace."""

import shutil

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

ASKED = {"prompt": "a large orange cross", "seed": 21, "steps": 6, "lora_bound": 0}
A, B = {"loras": ["night"]}, {"loras": ["hatching"]}
BOTH = {"loras": ["night", "hatching"], "lora_scales": [0.7, 0.5]}


@pytest.fixture
def own_adapters(serve, alter_repository, set_parameter, tmp_path, weights):
    """A second server whose LoRA folder the test may change; gives the server and the folder."""
    folder = tmp_path / "loras"
    shutil.copytree(weights / "loras", folder)

    def alter(name, config):
        if "adapters" in config.parameters:
            set_parameter(config, "adapters", str(folder))

    with serve(alter_repository(alter)) as server:
        yield server, folder


def test_weights_are_afterwards_what_they_were(ask):
    plain = ask(**ASKED)[0]
    first = {str(use): ask(**ASKED, **use)[0] for use in (A, B, BOTH)}
    for use in (A, B, BOTH, B, A, BOTH):
        assert np.array_equal(ask(**ASKED, **use)[0], first[str(use)])
        assert np.array_equal(ask(**ASKED)[0], plain)
    assert not np.array_equal(first[str(A)], plain)
    assert not np.array_equal(first[str(BOTH)], first[str(A)])


def test_history_leaves_no_trace_against_a_fresh_server(ask, ask_server, serve):
    """A, B, both, none after one another; the fresh server has them in another order."""
    sequence: tuple[dict, ...] = (A, B, BOTH, {})
    pictures = [ask(**ASKED, **use)[0] for use in sequence]
    with serve() as fresh:
        for place in (3, 2, 0, 1):
            assert np.array_equal(ask_server(fresh, **ASKED, **sequence[place])[0], pictures[place])


def test_the_same_set_stays_in_the_weights(ask):
    ask(**ASKED)
    first, info = ask(**ASKED, **BOTH)
    assert [lora["kept"] for lora in info["loras"]] == [False, False]
    again, info = ask(**ASKED, **BOTH)
    assert [(lora["kept"], lora["step"], lora["load_seconds"]) for lora in info["loras"]] == [(True, 0, 0.0)] * 2
    assert np.array_equal(first, again)
    assert [lora["kept"] for lora in ask(**ASKED, loras=["night"], lora_scales=[0.6])[1]["loras"]] == [False]


def test_a_request_that_fails_on_the_way_leaves_no_trace(ask, start_grpc):
    plain = ask(**ASKED)[0]
    answers, call = start_grpc(**ASKED | {"steps": 100, "width": 256, "height": 256}, **BOTH)
    assert answers.empty()
    call.cancel()
    answers.get(timeout=60)
    assert np.array_equal(ask(**ASKED)[0], plain)


def test_info_tells_when_each_took_effect(ask):
    _, info = ask(**ASKED | {"lora_bound": 3}, **BOTH)
    assert [lora["name"] for lora in info["loras"]] == ["night", "hatching"]
    for lora in info["loras"]:
        assert 0 <= lora["step"] <= 3
        assert lora["load_seconds"] >= 0
    assert [lora["waited_for_text_encoder"] for lora in info["loras"]] == [True, False]
    assert info["request"]["lora_bound"] == 3


def test_files_come_and_go_without_a_restart(own_adapters, ask_server, weights):
    server, folder = own_adapters
    night = ask_server(server, **ASKED, **A)[0]
    hatching = ask_server(server, **ASKED, **B)[0]
    assert not np.array_equal(night, hatching)

    # under a new name
    shutil.copy(weights / "loras" / "night.safetensors", folder / "evening.safetensors")
    assert np.array_equal(ask_server(server, **ASKED, loras="evening")[0], night)

    # another file under a known name
    shutil.copy(weights / "loras" / "hatching.safetensors", folder / "new")
    (folder / "new").replace(folder / "evening.safetensors")
    assert np.array_equal(ask_server(server, **ASKED, loras="evening")[0], hatching)

    (folder / "evening.safetensors").unlink()
    with pytest.raises(InferenceServerException, match="'evening' is not in the adapter store"):
        ask_server(server, **ASKED, loras="evening")

    # a LoRA of another model, a broken file and a pickle
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "night.safetensors")
    save_file(
        {key: value.repeat(2, *[1] * (value.dim() - 1)) for key, value in tensors.items()}, folder / "big.safetensors"
    )
    with pytest.raises(InferenceServerException, match="does not fit this pipeline"):
        ask_server(server, **ASKED, loras="big")
    (folder / "cut.safetensors").write_bytes((folder / "night.safetensors").read_bytes()[:5000])
    with pytest.raises(InferenceServerException, match="'cut'"):
        ask_server(server, **ASKED, loras="cut")
    (folder / "old.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(InferenceServerException, match=r"only \.safetensors files are served"):
        ask_server(server, **ASKED, loras="old")
    assert np.array_equal(ask_server(server, **ASKED, **A)[0], night)
