"""Benchmarks with their processes and servers, on the small checkpoint; their parts are in `tests/unit/benchmarks`."""

import json
import os
import signal
import subprocess
import sys
import time

from PIL import Image

from benchmarks.grid.command import TRACED
from commands.benchmark import parse_options, work
from launch.paths import CHECKOUT


def test_one_system_that_fails_leaves_the_others_measured(tmp_path, capsys):
    """What fails is an engine that takes a GPU."""
    options = ["--sizes", "64x96", "--steps", "1", "--repeats", "1", "--restart", "--engine", "cuda_graph"]
    assert work(parse_options(["step", "--device", "cpu", "--out", str(tmp_path), *options])) == 1
    report = json.loads((tmp_path / "step.json").read_text())
    assert [row["system"] for row in report["rows"]] == ["eager"]
    assert report["failures"].keys() == {"SwiftDiffusion, 64x96"}
    assert "needs a GPU" in report["failures"]["SwiftDiffusion, 64x96"]
    assert report["bars"]["unet_step_vs_eager"]["met"] is None
    assert "| 64x96, diffusers, eager |" in capsys.readouterr().out
    with Image.open(tmp_path / "step.png") as chart:
        assert chart.width > 1000


def test_every_system_is_served_and_measured(tmp_path, capsys):
    options = ["--out", str(tmp_path), "--checkpoint-folder", str(tmp_path / "shapes"), "--configurations", "1/1"]
    options += ["--steps", "2", "--requests", "2", "--warm-up", "1"]
    assert work(parse_options(["grid", *options])) == 0
    report = json.loads((tmp_path / "grid.json").read_text())
    rows = {row["system"]: row for row in report["rows"]}
    assert rows.keys() == {"ours", "stock", "best"}
    for row in rows.values():
        assert len(row["seconds"]) == row["requests"] == 2
        assert 0 < row["p50_s"] <= row["p99_s"] == max(row["seconds"])
        assert 0 < row["stages_s"]["total"] < row["mean_s"]
    assert rows["ours"]["outside"]["requests"] == TRACED
    assert 0 < rows["ours"]["outside"]["share"] < 1
    assert report["bars"]["speed_up_1/1_stock"]["figure"] is None, "promised at 50 steps on SDXL"
    assert work(parse_options(["grid", *options, "--resume", "--row-timeout", "0"])) == 0, "all is there already"
    assert "| 2, 1/1 " in capsys.readouterr().out


def test_a_server_that_is_held_is_measured_again_and_again(tmp_path):
    folders = ["--out", str(tmp_path), "--checkpoint-folder", str(tmp_path / "shapes")]
    with (tmp_path / "hold.log").open("wb") as log:
        holding = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", "hold", "stock", "--configurations", "1/1", *folders],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / "scripts")}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "held-stock.json").exists():
            assert holding.poll() is None, (tmp_path / "hold.log").read_text()
            assert time.monotonic() < deadline, "it is not ready"
            time.sleep(0.2)
        options = [*folders, "--held", "--systems", "stock", "--steps", "2", "--requests", "2", "--resume"]
        for loras in (1, 2):
            assert work(parse_options(["grid", *options, "--configurations", f"0/{loras}", "--warm-up", "0"])) == 0
        trace = ["--services", "B", "--loads", "0.8", "--unloaded", "2", "--adapters", "3", "--timelines"]
        assert work(parse_options(["trace", *options, *trace])) == 0
    finally:
        holding.send_signal(signal.SIGTERM)
        assert holding.wait(60) == 128 + signal.SIGTERM
    assert len(json.loads((tmp_path / "grid.json").read_text())["rows"]) == 2
    assert len(json.loads((tmp_path / "trace.json").read_text())["rows"]) == 2
    assert not (tmp_path / "held-stock.json").exists()


def test_production_like_load_and_a_timeline(tmp_path, capsys):
    options = ["--out", str(tmp_path), "--checkpoint-folder", str(tmp_path / "shapes"), "--systems", "ours"]
    options += ["--services", "A", "--loads", "0.8", "--requests", "4", "--unloaded", "3", "--steps", "2"]
    assert work(parse_options(["trace", *options, "--adapters", "3", "--timelines", "1/1"])) == 0
    unloaded, loaded = json.loads((tmp_path / "trace.json").read_text())["rows"]
    assert (unloaded["load"], unloaded["requests"], loaded["load"], loaded["requests"]) == (0, 3, 0.8, 4)
    assert loaded["failures"] == {}
    assert loaded["queue_s"] >= 0
    assert loaded["in_the_weights_share"] + loaded["host_cache_share"] > 0, "of 3 LoRAs in a cache for 10"
    assert (tmp_path / "timeline-1-1-no-GPU.png").stat().st_size > 0
    events = json.loads((tmp_path / "timeline-1-1-no-GPU.json").read_text())["traceEvents"]
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    shown = {(tracks[event["tid"]], event["name"].split()[0]) for event in events if event["ph"] == "X"}
    assert {
        ("client", "1/1,"), ("lane", "text_encoder"), ("text_encoder", "text_encoder"), ("LoRA lora_00004", "read"),
        ("cpu", "unet_encoder"), ("cpu", "unet_decoder"), ("edges on cpu", "controlnet"),
        ("vae_decoder", "vae_decoder"),
    } <= shown  # fmt: skip
    steps = [event for event in events if event["ph"] == "X" and event["name"] == "controlnet"]
    assert len(steps) == 2
    assert "| A, SwiftDiffusion" in capsys.readouterr().out


def test_exact_pictures_are_those_of_stock_diffusers(tmp_path):
    options = [
        "--out",
        str(tmp_path),
        "--pictures",
        "1",
        "--steps",
        "2",
        "--late",
        "2",
        "--variants",
        "exact",
        "late_2",
    ]
    assert work(parse_options(["quality", *options])) == 0
    report = json.loads((tmp_path / "quality.json").read_text())
    assert (tmp_path / "quality.png").exists()
    rows = {row["variant"]: row["sets"] for row in report["rows"]}
    assert rows.keys() == {"reference", "exact", "late_2"}
    if report["runs"][0]["machine"]["gpus"]:
        return
    assert report["bars"]["exact_max_difference"]["met"] is True
    assert rows["late_2"]["lora"]["max_difference"] > 1
