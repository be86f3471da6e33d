"""The grid's arithmetic, its report, and what it promises; `tests/server/test_benchmark.py` runs it."""

import json
from typing import Any

import pytest

from benchmarks.bars import Bar
from benchmarks.grid.outside import find_busy, measure_idle, measure_union
from benchmarks.grid.promises import judge
from benchmarks.grid.results import draw_rows, format_rows, order
from benchmarks.grid.rows import describe_row, is_same, summarise
from benchmarks.runs import GrowingReport
from benchmarks.serving.client import Reply
from benchmarks.serving.load import Answered
from benchmarks.serving.systems import BEST, OURS, STOCK, AddOns
from commands.benchmark import parse_options, work
from launch.problems import LaunchError


def make_row(system: str, add_ons: str, mean_s: float, **others: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {"mean_s": mean_s, "p50_s": mean_s, "p95_s": mean_s, "p99_s": 1.1 * mean_s, "gpus": 1}
    figures |= {"images_per_gpu_minute": 60 / mean_s / others.get("gpus", 1), "peak_memory_gb": None}
    return {**describe_row(system, AddOns.parse(add_ons), 50, {}), **figures, **others}


def test_quantiles_are_of_seconds_that_were_measured():
    answered = [Answered(seconds / 10, {"seconds": {"loras": 0.1, "total": seconds}}) for seconds in range(1, 21)]
    row = summarise(answered, gpus=2)
    assert (row["mean_s"], row["p50_s"], row["p95_s"], row["p99_s"]) == (1.05, 1.0, 1.9, 2.0)
    assert row["images_per_gpu_minute"] == pytest.approx(60 / 1.05 / 2, abs=1e-3)
    assert row["stages_s"] == {"loras": 0.1, "total": 10.5}


def test_a_union_counts_what_overlaps_once():
    spans = [(3.0, 4.0), (0.0, 2.0), (1.0, 2.5), (3.5, 3.6), (9.0, 12.0)]
    assert measure_union(spans, 0.5, 10.0) == pytest.approx(2.0 + 1.0 + 1.0)
    assert measure_union([], 0, 1) == 0


def test_only_where_a_network_ran_counts_as_inside():
    spans = [
        {"name": "unet_encoder", "track": "lane", "start": 0.0, "end": 9.0},  # the host's time to enqueue it
        {"name": "unet_encoder", "track": "cuda:0", "start": 1.0, "end": 3.0},
        {"name": "controlnet", "track": "edges on cuda:1", "start": 2.0, "end": 4.0},
        {"name": "fetch", "track": "LoRA night", "start": 0.0, "end": 9.0},
        {"name": "waiting", "track": "lane", "start": 0.0, "end": 9.0},
        {"name": "vae_decoder", "track": "vae_decoder", "start": 5.0, "end": 6.0},
    ]
    assert sorted(find_busy(spans)) == [(1.0, 3.0), (2.0, 4.0), (5.0, 6.0)]
    assert measure_idle(Reply(0.0, 10.0, {"spans": spans})) == pytest.approx(6.0)


def test_bars_compare_the_best_rows():
    rows = [
        make_row(STOCK, "1/1", 10.0),
        make_row(BEST, "1/1", 3.0),
        make_row(OURS, "1/1", 2.5, gpus=2, outside={"share": 0.02}),
        make_row(OURS, "1/1", 2.0, gpus=3, lane={"second_gpu": "cuda:1"}, outside={"share": 0.04}),
        make_row(STOCK, "0/0", 3.8),
        make_row(OURS, "0/0", 1.0, gpus=2, lane={"second_gpu": "cuda:1"}),
        make_row(OURS, "0/0", 2.0, p99_s=20.0),
        {**describe_row(OURS, AddOns(3, 0), 50, {}), "failed": "a reason"},
        {**make_row(OURS, "1/1", 0.1), "steps": 30},
    ]
    bars = judge(rows)
    assert {name: (bar.figure and round(bar.figure, 3), bar.met) for name, bar in bars.items()} == {
        "speed_up_1/1_stock": (5.0, True),
        "speed_up_1/1_best": (1.5, False),
        "speed_up_0/0_stock": (1.9, True),  # with one GPU, not with two
        "images_per_gpu_minute_1/1_stock": (2.0, False),
        "tail": (1.1, True),  # of rows with LoRAs
        "outside_networks": (0.04, False),
    }
    text = format_rows(rows, bars)
    assert "ours, 3/0: a reason" in text
    assert "SwiftDiffusion, second_gpu=cuda:1" in text
    assert [row["add_ons"] for row in order(rows)][:4] == ["1/1"] * 4
    assert draw_rows(rows, "sdxl").width > 500


def test_nothing_measured_is_no_bar_met():
    assert {bar.met for bar in judge([]).values()} == {None}
    assert "not measured" in format_rows([], judge([]))


def begin(path, resume: bool, checkpoint: str = "shapes") -> GrowingReport:
    def judge_count(rows):
        return {"rows": Bar(len(rows), 9, "rows")}

    return GrowingReport("grid", ["grid"], path, is_same, judge_count, resume, checkpoint=checkpoint)


def test_several_calls_fill_one_report(tmp_path):
    path = tmp_path / "grid.json"
    first = begin(path, resume=True)  # nothing is there yet
    first.add(make_row(OURS, "0/0", 1.0))
    first.add({**describe_row(STOCK, AddOns(0, 0), 50, {}), "failed": "cut off"})
    second = begin(path, resume=True)
    assert second.has(describe_row(OURS, AddOns(0, 0), 50, {}))
    assert not second.has(describe_row(OURS, AddOns(0, 0), 50, {"second_gpu": "cuda:1"}))
    assert not second.has(describe_row(STOCK, AddOns(0, 0), 50, {})), "a failure is to be measured again"
    second.add(make_row(STOCK, "0/0", 2.0))
    report = json.loads(path.read_text())
    assert [(row["system"], row["run"]) for row in report["rows"]] == [("ours", 0), ("stock", 1)]
    assert len(report["runs"]) == 2
    assert report["bars"]["rows"]["figure"] == 2
    assert begin(path, resume=False).rows == []
    with pytest.raises(LaunchError, match="has checkpoint 'shapes', not 'sdxl'"):
        begin(path, resume=True, checkpoint="sdxl")


def test_what_the_machine_cannot_do_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(LaunchError, match="'sdxl', which takes a GPU; allowed here: shapes"):
        work(parse_options(["grid", "--checkpoint", "sdxl", "--out", str(tmp_path)]))
    for arguments, sentence in ((["--configurations", "4/0"], "from 0/0 to 3/2"), (["--lane", "x"], "not NAME=VALUE")):
        with pytest.raises(SystemExit):
            parse_options(["grid", *arguments])
        assert sentence in capsys.readouterr().err
