"""What cannot be served is refused with the right code and a sentence, and the next request is right."""

import json
import urllib.error
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

GOOD: dict[str, Any] = {"prompt": "a blue square", "seed": 5, "steps": 3}
BAD: list[tuple[dict[str, Any], int, str, str]] = [
    ({"prompt": ""}, 400, "INVALID_ARGUMENT", "prompt is empty"),
    ({"loras": ["nope"]}, 404, "NOT_FOUND", "'nope' is not in the adapter store, which has: "),
    ({"loras": ["../night"]}, 400, "INVALID_ARGUMENT", "'../night'"),
    ({"loras": ["night\0"]}, 400, "INVALID_ARGUMENT", r"'night\x00'"),
    ({"loras": ["night"], "lora_scales": [1.0, 2.0]}, 400, "INVALID_ARGUMENT", "lora_scales has 2 values"),
    ({"loras": ["night"], "lora_scales": [float("nan")]}, 400, "INVALID_ARGUMENT", "lora_scales[0] is nan"),
    ({"controlnets": ["depth"], "control_images": [b"x"]}, 404, "NOT_FOUND", "'depth'; served: edges, layout"),
    ({"controlnets": ["../x"], "control_images": [b"x"]}, 404, "NOT_FOUND", "'../x'"),
    ({"controlnets": ["edges"]}, 400, "INVALID_ARGUMENT", "control_images has 0 pictures"),
    (
        {"controlnets": ["edges"], "control_images": [b"\x89PNG"]},
        400,
        "INVALID_ARGUMENT",
        "control_images[0] (4 bytes)",
    ),
    ({"scheduler": "Euler"}, 400, "INVALID_ARGUMENT", "allowed: EulerDiscreteScheduler"),
    ({"scheduler": "LCMScheduler", "steps": 60}, 400, "INVALID_ARGUMENT", "steps is 60, which LCMScheduler cannot do"),
    ({"width": 100}, 400, "INVALID_ARGUMENT", "width is 100; it must be a multiple of 8"),
    ({"height": 1024}, 400, "INVALID_ARGUMENT", "height is 1024; allowed: 64 to 256"),
    ({"steps": 0}, 400, "INVALID_ARGUMENT", "steps is 0; allowed: 1 to 100"),
    ({"steps": 10_000}, 400, "INVALID_ARGUMENT", "steps is 10000; allowed: 1 to 100"),
    ({"guidance_scale": float("nan")}, 400, "INVALID_ARGUMENT", "guidance_scale is nan"),
]


@pytest.fixture(scope="module")
def good(request):
    """The good request's picture, asked for once before anything went wrong."""
    pixels: list = []
    return pixels


@pytest.mark.parametrize(("wrong", "status", "code", "words"), BAD, ids=lambda value: str(value)[:40])
def test_refusal(ask, ask_grpc, start_stream, good, wrong, status, code, words):
    if not good:
        good.append(ask(**GOOD)[0])
    with pytest.raises(InferenceServerException) as refusal:
        ask(**GOOD | wrong)
    assert words in refusal.value.message()
    assert refusal.value.status() == str(status)

    with pytest.raises(InferenceServerException) as refusal:
        ask_grpc(**GOOD | wrong)
    assert words in refusal.value.message()
    assert refusal.value.status() == f"StatusCode.{code}"

    result, error = start_stream(**GOOD | wrong).get(timeout=60)
    assert result is None
    assert words in error.message()

    assert np.array_equal(ask(**GOOD)[0], good[0])


def test_a_refusal_over_json_has_its_status(post):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        post("swiftdiffusion", "generate", prompt="x", steps=0)
    assert refusal.value.code == 400
    assert "steps is 0; allowed: 1 to 100" in json.load(refusal.value)["error"]


def test_a_refused_request_does_no_work(http, ask):
    def count(model):
        return int(http.get_inference_statistics(model)["model_stats"][0]["execution_count"])

    before = count("text_encoder"), count("vae_decoder")
    for wrong, *_ in BAD:
        with pytest.raises(InferenceServerException):
            ask(**GOOD | wrong)
    assert (count("text_encoder"), count("vae_decoder")) == before


def test_internals_stay_inside(ask):
    for wrong, *_ in BAD:
        with pytest.raises(InferenceServerException) as refusal:
            ask(**GOOD | wrong)
        for secret in ("Traceback", ".py", "/build/shapes", "site-packages"):
            assert secret not in refusal.value.message()
