"""`scripts/benchmark loras` and `scripts/profile-loras`: their arithmetic, and a small run of each."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.lines import draw_lines
from benchmarks.loras import command, exactness, unet_lane
from benchmarks.loras import studio as studio_module
from benchmarks.loras.failures import FAILURES, measure_failures
from benchmarks.loras.judging import describe_results, draw_quality, judge_bars
from benchmarks.loras.latency import measure_host, measure_latency, measure_steps
from benchmarks.loras.local_lane import LocalLane
from benchmarks.loras.profiling import Lateness
from benchmarks.loras.quality_table import count_lost_points, tabulate
from benchmarks.loras.rows import Rows, arrange, is_same
from benchmarks.loras.services import SERVICES
from benchmarks.loras.studio import Studio, spread
from benchmarks.loras.trace import draw_requests
from benchmarks.runs import GrowingReport
from benchmarks.similarity import measure_cosine, measure_ssim
from commands import profile_loras
from launch.problems import LaunchError
from shapes.checkpoint import lora_file, pipeline_folder

RANDOM = np.random.default_rng(0)
QUALITY: dict[str, dict[str, float]] = {
    f"{name} {bound}": {"styled": styled, "ssim": ssim}
    for name, rows in {
        "night": {5: (98.0, 0.9), 0: (100.0, 1.0)},
        "outline": {0: (90.0, 1.0), 5: (91.0, 0.95)},
        "pixelated": {0: (90.0, 1.0), 5: (90.0, 0.95), 7: (80.0, 0.9)},
        "hatching": {0: (90.0, 1.0), 5: (89.0, 0.95)},
    }.items()
    for bound, (styled, ssim) in rows.items()
}
LATENCY: dict[str, dict[str, Any]] = {
    "request": {
        "subject": "sdxl",
        "plain_ms": 800.0,
        "disk_ms": 120.0,
        "warm": {"ms": 810.0, "added_percent": 1.25, "load_ms": 90.0},
        "cold": {"ms": 840.0, "added_percent": 5.0, "load_ms": 400.0},
    },
    "steps": {"idle_ms": 29.0, "loading_ms": 29.29, "slowed_percent": 1.0},
    "host": {
        name: {"p50_ms": 0.2, "p99_ms": longest, "max_ms": longest}
        for name, longest in (("idle", 0.3), ("loading", 5.0))
    },
}
FINE = {"error": "NotFound", "seconds": 0.1, "clear": True, "unharmed": True}


def draw_noise(amount: float) -> np.ndarray:
    base = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3)
    return np.clip(base + amount * RANDOM.standard_normal(base.shape), 0, 255).astype(np.uint8)


def test_similarity_falls_with_noise() -> None:
    clean = draw_noise(0)
    assert measure_ssim(clean, clean) == pytest.approx(1)
    values = [measure_ssim(clean, draw_noise(amount)) for amount in (2, 10, 50, 200)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.8
    assert values[-1] < 0.2
    # a constant shift keeps the structure, and costs what the paper's first factor says
    dark, light = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), 150, np.uint8)
    luminance = (2 * 100 * 150 + 6.5025) / (100**2 + 150**2 + 6.5025)
    assert measure_ssim(dark, light) == pytest.approx(luminance, rel=1e-6)


def test_cosine_of_latents() -> None:
    one = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    other = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    assert measure_cosine(one, other) == pytest.approx(0.5)


def test_bounds_are_spread_from_first_to_last() -> None:
    for steps, count in ((30, 9), (4, 5), (1, 2)):
        bounds = spread(steps, count)
        assert (bounds[0], bounds[-1]) == (0, steps)
        assert bounds == sorted(set(bounds))


@pytest.mark.parametrize(("threshold", "bound"), [(0.95, 0), (0.9, 3), (0.8, 6), (0.1, 9)])
def test_the_bound_is_the_last_before_the_first_that_is_too_different(threshold: float, bound: int) -> None:
    lateness = Lateness("ink", 10, [0.99] * 10, {0: 1.0, 3: 0.92, 6: 0.85, 8: 0.7, 10: 0.9})
    assert lateness.choose_bound(threshold) == bound
    profile = lateness.to_profile(threshold)
    assert (profile.bound, profile.steps, profile.similarities["3"]) == (bound, 10, 0.92)


def test_requests_are_drawn_as_the_service_has_them() -> None:
    service = SERVICES["A"]
    requests = list(draw_requests(service, 4000, 60))
    assert requests == list(draw_requests(service, 4000, 60))
    counts = Counter(len(names) for names in requests)
    for number, share in enumerate(service.loras):
        assert counts[number] / 4000 == pytest.approx(share, abs=0.015)
    names = Counter(name for names in requests for name in names)
    assert len(names) == 60
    assert names["lora000"] > 2 * names["lora010"] > 2 * names["lora050"]


def test_bars_are_judged_from_figures() -> None:
    report: dict[str, Any] = {
        "patch": {"one": {"patch": 3.4, "restore": 2.6}},
        "latency": LATENCY,
        "quality": QUALITY,
        "exact": {"history": {"different": ["A+B"]}, "set_adapters": {"max_difference": 1}},
        "trace": {"A": {"memory_growth_mib": 3.0}},
        "failures": dict.fromkeys(FAILURES, FINE),
    }
    bars = judge_bars(report)
    assert {name: bar.met for name, bar in bars.items()} == {
        "history_leaves_no_trace": False,
        "two_loras_against_set_adapters": True,
        "patch_ms": True,
        "restore_ms": False,
        "added_percent_warm": True,
        "added_percent_cold": False,
        "steps_slowed_percent": True,
        "judge_points_lost": True,
        "memory_growth_mib_A": True,
        "memory_growth_mib_B": None,
        "failures": True,
    }
    assert bars["judge_points_lost"].figure == 0.5
    text = describe_results(report, bars)
    assert "the host's part of a step" in text
    assert "points of the judge lost" in text and "98.0 / 0.900" in text
    assert count_lost_points(QUALITY, 7) is None


def test_without_figures_no_bar_is_judged() -> None:
    assert {bar.met for bar in judge_bars({}).values()} == {None}
    small = {"latency": {**LATENCY, "request": {**LATENCY["request"], "subject": "shapes"}}}
    assert judge_bars(small)["added_percent_cold"].met is judge_bars(small)["steps_slowed_percent"].met is None


@pytest.mark.parametrize("fault", ["clear", "unharmed"])
def test_one_failure_that_is_badly_met_counts(fault: str) -> None:
    failures = {**dict.fromkeys(FAILURES, FINE), "slow_store": {**FINE, fault: False}}
    assert judge_bars({"failures": failures})["failures"].figure == 1
    del failures["corrupt"]
    assert judge_bars({"failures": failures})["failures"].met is None


def open_rows(path: Path, resume: bool) -> Rows:
    return Rows(GrowingReport("x", [], path, is_same, lambda rows: judge_bars(arrange(rows)), resume))


def test_rows_are_on_the_disk_at_once_and_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    rows = open_rows(path, resume=True)
    rows.measure("patch", "one", lambda: {"patch": 3.0, "restore": 1.0})
    assert json.loads(path.read_text())["bars"]["patch_ms"]["met"] is True
    again = open_rows(path, resume=True)
    assert again.parts == {"patch": {"one": {"patch": 3.0, "restore": 1.0}}}
    again.measure("patch", "one", lambda: pytest.fail("it is known"))
    again.measure("exact", "history", lambda: {"different": []})
    report = json.loads(path.read_text())
    assert [(row["part"], row["run"]) for row in report["rows"]] == [("patch", 0), ("exact", 1)]
    assert report["bars"]["history_leaves_no_trace"]["met"] is True
    assert not open_rows(path, resume=False).has("patch", "one")


def test_plots_show_what_they_are_given() -> None:
    rising = draw_lines("x", "step", {"a": [(0, 0.0), (10, 1.0)]}, (0, 1))
    falling = draw_lines("x", "step", {"a": [(0, 1.0), (10, 0.0)]}, (0, 1))
    red = [(np.asarray(picture).astype(int) - [209, 73, 91]) for picture in (rising, falling)]
    first, second = (np.argwhere(np.abs(difference).sum(axis=2) == 0) for difference in red)
    left, right = first[first[:, 1] < first[:, 1].mean()], first[first[:, 1] > first[:, 1].mean()]
    assert left[:, 0].mean() > right[:, 0].mean()
    assert not np.array_equal(first, second)
    longer = draw_lines("x", "step", {"a name that takes more room": [(0, 0.0), (10, 1.0)]}, (0, 1))
    assert longer.width > rising.width
    assert draw_quality(QUALITY).height == rising.height


def test_equal_ratios_are_equally_high_where_a_plot_is_logarithmic() -> None:
    ratios = draw_lines("x", "step", {"a": [(0, 1.0), (1, 10.0), (2, 100.0)]}, (1, 100), logarithmic=True)
    steps = draw_lines("x", "step", {"a": [(0, 0.0), (1, 1.0), (2, 2.0)]}, (0, 2))
    first, second = (
        np.abs(np.asarray(picture).astype(int) - [209, 73, 91]).sum(axis=2) == 0 for picture in (ratios, steps)
    )
    assert np.array_equal(first, second)
    for low, high in ((2.7, 33.3), (0.02, 0.02), (1000, 1001)):
        draw_lines("x", "step", {"a": [(0, low), (1, high)]}, (low, high), logarithmic=True)


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return parser.parse_args(arguments)


def test_a_run_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(tmp_path), "--prompts", "1", "--bounds", "0", "30", "--requests", "6", "--trace-steps", "2"]
    assert command.work(parse(*options, "--parts", "quality", "--services", "B")) == 0
    quality = arrange(json.loads((tmp_path / "loras.json").read_text())["rows"])["quality"]
    assert command.work(parse(*options, "--resume", "--parts", "quality", "trace", "--services", "B")) == 0
    report = json.loads((tmp_path / "loras.json").read_text())
    parts = arrange(report["rows"])
    assert parts["quality"] == quality
    table = tabulate(quality)
    assert all(rows[0]["ssim"] == 1 for rows in table.values())
    assert table["mean"][30]["ssim"] < 0.97
    assert parts["trace"]["B"]["requests"] == 6
    assert report["bars"]["judge_points_lost"]["met"] is None
    assert Image.open(tmp_path / "loras-quality.png").width > 500
    assert "of the trace of service B" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_what_takes_a_gpu_is_refused_without(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="'patch', which takes a GPU"):
        command.work(parse("--out", str(tmp_path), "--parts", "patch"))


def test_every_failure_is_met_well(tmp_path: Path) -> None:
    rows = open_rows(tmp_path / "x.json", resume=False)
    measure_failures(rows)
    for name, row in rows.parts["failures"].items():
        assert row["clear"] and row["unharmed"], (name, row)
    assert rows.parts["failures"].keys() == set(FAILURES)


def test_what_a_lora_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet_lane, "SMALL_RANK", 16)
    with unet_lane.open_lane(steps=unet_lane.BOUND + 1) as lane:
        latency, steps, host = measure_latency(lane, 1), measure_steps(lane, 1), measure_host(lane, 3)
    assert latency["subject"] == "shapes"
    assert 0 <= latency["warm"]["step"][0] <= unet_lane.BOUND
    assert latency["warm"]["load_ms"] > 0 and latency["plain_ms"] > 0 and latency["disk_ms"] > 0
    assert steps["loads"] > 0
    for figures in (host["idle"], host["loading"]):
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]


def test_renewed_files_are_new_to_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet_lane, "SMALL_RANK", 16)
    with unet_lane.open_lane(steps=1) as lane:
        lane.run(lane.names[0])
        file = lane.loader.inspect(lane.names[0]).file
        assert lane.loader.holds(file)
        lane.renew_files()
        renewed = lane.loader.inspect(lane.names[0]).file
        assert not lane.loader.holds(renewed)
        assert lane.loader.load(renewed).result(60).file == renewed


def test_one_set_after_the_other_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exactness, "can_serve", lambda: False)
    monkeypatch.setitem(exactness.REQUEST, "steps", [2])
    history = exactness.measure_history()
    assert (history["drawn_by"], history["different"]) == ("a lane in this process", [])
    both = exactness.measure_against_diffusers()
    assert both["max_difference"] <= 1 < both["of_reference_to_plain"]


@pytest.mark.parametrize("at_a_time", [1, 2, 128])
def test_pictures_are_those_of_a_lane(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio_module, "PIXELS", at_a_time * 64 * 64)
    studio = Studio(pipeline_folder(), lora_file("night").parent, steps=3, guidance_scale=3.0, size=64)
    prompts, seeds = ["a small red circle", "a large blue star", "a green square"], [1, 2, 3]
    drawn = studio.draw(prompts, seeds, studio.load("night", 0.7), 0)
    studio.close()
    common: dict[str, Any] = {"steps": [3], "width": [64], "height": [64], "loras": ["night"], "lora_scales": [0.7]}
    with LocalLane(lora_file("night").parent) as lane:
        for prompt, seed, pixels in zip(prompts, seeds, drawn, strict=True):
            expected = lane.draw({**common, "prompt": [prompt], "seed": [seed], "lora_bound": [0]}).pixels
            assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_a_lora_that_comes_late_changes_less() -> None:
    studio = Studio(pipeline_folder(), lora_file("night").parent, steps=3, guidance_scale=3.0, size=64)
    lora = studio.load("night", 0.7)
    prompts = ["a small red circle", "a large blue star"]
    both = studio.draw(prompts, [1, 2], lora, 1)
    alone = [studio.draw([prompt], [seed], lora, 1)[0] for prompt, seed in zip(prompts, (1, 2), strict=True)]
    without = studio.draw(prompts, [1, 2], None, 3)
    studio.close()
    for together, single, plain in zip(both, alone, without, strict=True):
        assert np.abs(together.astype(int) - single).max() <= 1
        assert np.abs(together.astype(int) - plain).max() > 3


def test_profiles_are_kept_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "loras"
    folder.mkdir()
    (folder / "night.safetensors").symlink_to(lora_file("night"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a small red circle\n\n")
    arguments = ["night", "--adapters", str(folder), "--prompts", str(prompts), "--steps", "4", "--bounds", "3"]
    arguments += ["--size", "64", "--out", str(tmp_path / "plots"), "--threshold", "0.5"]
    assert profile_loras.work(profile_loras.parse_options([*arguments, "--dry-run"])) == 0
    assert not list(folder.glob("*.json"))
    assert profile_loras.work(profile_loras.parse_options(arguments)) == 0
    profile = json.loads((folder / "night.profile.json").read_text())
    assert profile["steps"] == 4
    assert profile["similarities"]["0"] == 1.0
    assert set(profile["similarities"]) == {"0", "1", "4"}
    assert (tmp_path / "plots" / "night.png").exists()
    with pytest.raises(LaunchError, match="'paint' is not in the adapter store"):
        profile_loras.work(profile_loras.parse_options(["paint", *arguments[1:]]))
