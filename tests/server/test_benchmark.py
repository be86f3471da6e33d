"""`scripts/benchmark step` with its processes, on the small checkpoint; its parts are in `tests/unit/benchmarks`."""

import json

from PIL import Image

from commands.benchmark import parse_options, work


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
