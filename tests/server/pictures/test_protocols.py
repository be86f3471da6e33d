"""One request in every way that Triton's clients can send it."""

import base64
import io
import json

import numpy as np
from PIL import Image

ASKED = {"prompt": "a large yellow star on a black background", "seed": 11, "steps": 6}


def read_events(response):
    """The JSON bodies of a server-sent event stream."""
    return [json.loads(line.removeprefix(b"data: ")) for line in response if line.startswith(b"data: ")]


def read_base64(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def drain(responses):
    """Responses until the picture has come."""
    results: list = []
    while not results or results[-1].as_numpy("info") is None:
        result, error = responses.get(timeout=120)
        assert error is None, error
        results.append(result)
    return results


def test_all_ways_give_the_same_picture(ask, ask_grpc, start_stream, post):
    expected, info = ask(**ASKED)
    assert info["request"] | ASKED == info["request"]
    assert info["seconds"]["total"] > 0

    assert np.array_equal(ask_grpc(**ASKED)[0], expected)

    *_, last = drain(start_stream(**ASKED))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(last.as_numpy("image")[0]))), expected)

    with post("swiftdiffusion", "generate", **ASKED, base64=True) as response:
        assert np.array_equal(read_base64(json.load(response)["image"]), expected)

    with post("swiftdiffusion_stream", "generate_stream", **ASKED, base64=True) as response:
        events = read_events(response)
    assert np.array_equal(read_base64(events[-1]["image"]), expected)
    assert [event["step"] for event in events[:-1]] == [1, 2, 3, 4, 5, 6]


def test_a_controlnet_and_a_lora_over_json(ask, post, references, encode_base64):
    inputs = {**ASKED, "loras": ["outline"], "lora_scales": [0.9], "lora_bound": 0, "controlnets": ["edges"]}
    expected, _ = ask(**inputs, control_images=references["edges"])
    body = {**inputs, "control_images": [encode_base64(references["edges"])], "base64": True}
    with post("swiftdiffusion", "generate", **body) as response:
        assert np.array_equal(read_base64(json.load(response)["image"]), expected)


def test_the_stream_tells_every_step_and_shows_some(start_stream):
    *steps, last = drain(start_stream(**ASKED, preview_every=2))
    assert [step.as_numpy("step")[0] for step in steps] == [1, 2, 3, 4, 5, 6]
    assert {step.as_numpy("steps")[0] for step in steps} == {6}
    seconds = [step.as_numpy("seconds")[0] for step in steps]
    assert seconds == sorted(seconds)
    previews = [step.as_numpy("preview") for step in steps]
    # the last step's picture follows at once, so that it needs no preview
    assert [preview is not None for preview in previews] == [False, True, False, True, False, False]
    assert Image.open(io.BytesIO(previews[3][0])).size == (96, 96)
    assert Image.open(io.BytesIO(last.as_numpy("image")[0])).size == (128, 128)


def test_a_preview_comes_near_the_picture(start_stream):
    *steps, last = drain(start_stream(**ASKED | {"steps": 12}, preview_every=1))
    picture = Image.open(io.BytesIO(last.as_numpy("image")[0])).resize((96, 96))
    distances = [
        np.abs(np.asarray(Image.open(io.BytesIO(step.as_numpy("preview")[0])), float) - np.asarray(picture)).mean()
        for step in steps[:-1]
    ]
    assert distances[-1] < distances[0]
    assert distances[-1] < 8


def test_formats(ask, http):
    expected, _ = ask(**ASKED)
    raw, _ = ask(**ASKED, output_format="raw")
    assert np.array_equal(raw, expected)
    for output_format in ("jpeg", "webp"):
        pixels, info = ask(**ASKED, output_format=output_format)
        assert np.abs(pixels.astype(int) - expected).mean() < 6
        assert info["request"]["output_format"] == output_format


def test_without_a_seed_every_picture_is_another_and_can_be_had_again(ask):
    prompt = ASKED["prompt"]
    first, info = ask(prompt=prompt, steps=3)
    assert not np.array_equal(ask(prompt=prompt, steps=3)[0], first)
    assert np.array_equal(ask(prompt=prompt, steps=3, seed=info["request"]["seed"])[0], first)
