"""When each part of a request ran."""

import time

import pytest
import torch

from swiftdiffusion.denoising.stopwatch import HOST, REQUEST, Stopwatch
from swiftdiffusion.denoising.timeline import Timeline

CPU = torch.device("cpu")


def test_spans_lie_where_the_blocks_ran():
    stopwatch = Stopwatch(Timeline())
    start = time.monotonic()
    with stopwatch("first", CPU):
        time.sleep(0.02)
    stopwatch.note("elsewhere", "vae_decoder", start + 5, start + 6)
    spans = stopwatch.report_spans()
    assert spans is not None
    assert [(span["name"], span["track"]) for span in spans] == [
        (REQUEST, HOST),
        ("first", HOST),
        ("first", "cpu"),
        ("elsewhere", "vae_decoder"),
    ]
    whole, host, device, elsewhere = spans
    assert whole["start"] <= host["start"] <= host["end"] <= whole["end"] <= time.monotonic()
    assert start <= host["start"] <= device["start"] <= device["end"] <= host["end"] <= time.monotonic()
    assert device["end"] - device["start"] >= 0.02
    assert elsewhere["end"] - elsewhere["start"] == pytest.approx(1)
    assert set(stopwatch.report()) == {"first", "total"}, "what ran elsewhere is no stage of its own"


def test_without_a_timeline_only_seconds_are_kept():
    stopwatch = Stopwatch()
    with stopwatch("first", CPU):
        pass
    stopwatch.note("elsewhere", "vae_decoder", 0, 1)
    assert stopwatch.report_spans() is None
    assert set(stopwatch.report()) == {"first", "total"}


def test_a_stage_that_fails_is_noted_too():
    stopwatch = Stopwatch(Timeline())
    with pytest.raises(ValueError, match="broken"), stopwatch("first"):
        raise ValueError("broken")
    assert [span["name"] for span in stopwatch.report_spans() or []] == [REQUEST, "first"]
