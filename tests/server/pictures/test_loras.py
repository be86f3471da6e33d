"""LoRAs through the server: in time, in full, and gone without a trace."""

import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
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


def test_broken_files_are_refused_and_leave_the_lane_unharmed(own_adapters, ask_server):
    server, folder = own_adapters
    whole = (folder / "night.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    tensors = load_file(folder / "night.safetensors")
    not_finite = {key: value.clone() for key, value in tensors.items()}
    first = min(key for key in tensors if key.startswith("unet."))
    not_finite[first].view(-1)[0] = float("inf")
    files = {
        "big": {key: value.repeat(2, *[1] * (value.dim() - 1)) for key, value in tensors.items()},
        "infinite": not_finite,
        "other": {"transformer.blocks.0.lora_A.weight": tensors[first]},
        "cut": whole[:5000],
        "beheaded": whole[:8] + b"x" * length + whole[8 + length :],
        "huge": (2**40).to_bytes(8, "little") + whole[8:],
        "long": (2**26).to_bytes(8, "little") + b" " * 2**26,
        "empty": b"",
    }
    for name, content in files.items():
        path = folder / f"{name}.safetensors"
        path.write_bytes(content) if isinstance(content, bytes) else save_file(content, path)
    (folder / "old.pt").write_bytes(b"\x80\x04.")
    (folder / "dangling.safetensors").symlink_to(folder / "nowhere")
    plain, night = ask_server(server, **ASKED)[0], ask_server(server, **ASKED, **A)[0]
    for name, words in {
        "big": "does not fit this pipeline",
        "infinite": f"a value in '{first}' that is infinite",
        "other": "'transformer.blocks.0.lora_A.weight'.*no such linear or convolution layer",
        "cut": "cut short",
        "beheaded": "its header is malformed",
        "huge": "its header does not fit in it",
        "long": "has a header of 67108864 bytes, more than the",
        "empty": "is not a safetensors file",
        "old": r"only \.safetensors files are served",
        "dangling": "is not in the adapter store",
        "../loras/night": "is not a name",
    }.items():
        with pytest.raises(InferenceServerException, match=words):
            ask_server(server, **ASKED, loras=["night", name])
        assert np.array_equal(ask_server(server, **ASKED, **A)[0], night), name
    assert np.array_equal(ask_server(server, **ASKED)[0], plain)
