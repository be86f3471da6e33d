"""A request that asks when each part ran."""

import time

import pytest


@pytest.fixture(scope="module")
def steps():
    return 3


def test_spans_are_told_where_they_are_asked_for(ask, references, steps):
    inputs = {
        "prompt": "a small red circle, traced",
        "steps": steps,
        "loras": ["outline"],
        "controlnets": ["edges", "layout"],
        "control_images": [references["edges"], references["layout"]],
    }
    sent = time.monotonic()
    _, info = ask(**inputs, trace=True)
    answered = time.monotonic()
    spans = info["spans"]
    assert all(sent <= span["start"] <= span["end"] <= answered for span in spans)
    assert spans == sorted(spans, key=lambda span: span["start"])

    def count(name, track):
        return len([span for span in spans if (span["name"], span["track"]) == (name, track)])

    for part in ("unet_encoder", "unet_decoder", "scheduler"):
        assert count(part, "cpu") == count(part, "lane") == steps
    assert count("controlnet_prepare", "edges on cpu") == count("controlnet_prepare", "layout on cpu") == 1
    assert count("controlnet", "edges on cpu") == count("controlnet", "layout on cpu") == steps
    for model in ("text_encoder", "vae_decoder"):
        waits = [span for span in spans if (span["name"], span["track"]) == (model, "lane")]
        (work,) = [span for span in spans if (span["name"], span["track"]) == (model, model)]
        assert work["start"] < work["end"] <= waits[-1]["end"], "which the lane has waited for"
    assert "spans" not in ask(**inputs)[1]
    assert "trace" not in info["request"], "it is no part of the picture"
