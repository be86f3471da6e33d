"""`scripts/benchmark controlnets` in small, on the CPU: every part that needs no second GPU, through real servers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

SMALL = ["--checkpoint", "shapes", "--engine", "torch", "--steps", "1", "3", "--slow-steps", "1", "3"]
FEW = ["--repeats", "1", "--kills", "1", "--requests", "6"]


def run(options):
    """In a process of its own: the benchmark kills ControlNets of the servers below its process, and of no others."""
    command = [sys.executable, "-m", "benchmarks", *options]
    variables = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(command, cwd=SCRIPTS.parent, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is left out on the CPU is measured here")
def test_all_parts_on_the_cpu(tmp_path):
    options = ["controlnets", "--out", str(tmp_path), *SMALL, *FEW]
    run(options)
    report = json.loads((tmp_path / "controlnets.json").read_text())
    rows = {(row["part"], row["name"]): row for row in report["rows"]}
    assert all("left_out" in rows["steps", name] for name in ("far", "far_bls", "split", "split_far", "split_both"))
    assert all("left_out" in rows["data_path", name] for name in ("far", "near"))
    assert [one["transport"] for one in rows["steps", "near"]["controlnets"]] == ["bls"]
    assert all(len(rows["steps", name]["seconds"]) == 2 for name in ("none", "near", "near_bls"))
    assert rows["pictures", "near_vs_near_bls"]["max_difference"] == 0
    assert rows["pictures", "near_vs_none"]["max_difference"] > 1
    kill = rows["failures", "kill"]
    assert (kill["kills"], kill["clean"], kill["following_right"], kill["repaired_right"]) == (1, 1, 1, 1)
    assert (kill["checkpoint"], kill["controlnet"]["transport"], kill["gpus"]) == ("shapes", "bls", [])
    assert all(1 <= step < kill["steps"] for step in kill["killed_after_step"])
    assert kill["slowest_error_s"] <= kill["timeout_s"] + 1
    assert "UNAVAILABLE: ControlNet 'edges'" in kill["sentences"][0]
    soak = rows["soak", "random"]
    assert (soak["requests"], soak["right"]) == (6, 6)
    assert soak["evictions"] > 0
    assert soak["transports"] == ["bls"]
    assert report["bars"]["step_far_vs_none"]["met"] is None
    assert report["bars"]["kills_clean"]["met"] is True
    with Image.open(tmp_path / "controlnets.png") as chart:
        assert chart.width > 1000
    printed = run([*options, "--resume"])  # nothing is measured anew
    assert len(json.loads((tmp_path / "controlnets.json").read_text())["runs"]) == 2
    assert "| kills of a ControlNet's process" in printed
