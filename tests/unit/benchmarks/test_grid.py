"""The grid's arithmetic, its report, and what it promises; `tests/server/test_benchmark.py` runs it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks.bars import Bar
from benchmarks.grid.outside import AROUND, BETWEEN, find_busy, find_gaps, measure_idle, summarise_outside
from benchmarks.grid.promises import judge
from benchmarks.grid.results import draw_rows, format_rows, order
from benchmarks.grid.rows import describe_row, is_same, summarise
from benchmarks.runs import GrowingReport
from benchmarks.serving.load import Answered
from benchmarks.serving.systems import BEST, OURS, STOCK, AddOns
from commands.benchmark import parse_options, work
from launch.problems import LaunchError

PLACE = {"machine": "2 NVIDIA H200, 32 cores", "layout": "one GPU", "lane": {}}


def make_row(system: str, add_ons: str, mean_s: float, **others: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {"mean_s": mean_s, "p50_s": mean_s, "p95_s": mean_s, "p99_s": 1.1 * mean_s, "gpus": 1}
    figures |= {"images_per_gpu_minute": 60 / mean_s / others.get("gpus", 1), "peak_memory_gb": None}
    return {**describe_row(system, AddOns.parse(add_ons), 50, PLACE), "requests": 20, **figures, **others}


def test_quantiles_are_of_seconds_that_were_measured():
    infos: list[dict[str, Any]] = [{"seconds": {"loras": 0.1, "total": seconds}} for seconds in range(1, 21)]
    infos[0]["controlnets"] = [{"transport": "ipc"}, {"transport": "ipc"}]
    infos[1]["controlnets"] = [{"transport": "bls"}]  # one that could not share memory shows
    row = summarise([Answered(info["seconds"]["total"] / 10, info) for info in infos], gpus=2)
    assert (row["mean_s"], row["p50_s"], row["p95_s"], row["p99_s"]) == (1.05, 1.0, 1.9, 2.0)
    assert row["images_per_gpu_minute"] == pytest.approx(60 / 1.05 / 2, abs=1e-3)
    assert row["stages_s"] == {"loras": 0.1, "total": 10.5}
    assert row["transports"] == ["bls", "ipc"]


def test_gaps_are_what_nothing_covers():
    spans = [(3.0, 4.0), (0.0, 2.0), (1.0, 2.5), (3.5, 3.6), (9.0, 12.0)]
    assert find_gaps(spans, 0.5, 10.0) == [(2.5, 3.0), (4.0, 9.0)]
    assert find_gaps(spans, 0.5, 8.0) == [(2.5, 3.0), (4.0, 8.0)]
    assert find_gaps([], 0, 1) == [(0, 1)]


def test_only_where_a_network_ran_counts_as_inside():
    spans = [
        {"name": "request", "track": "lane", "start": 0.0, "end": 10.0},
        {"name": "unet_encoder", "track": "lane", "start": 0.0, "end": 9.0},  # the host's time to enqueue it
        {"name": "unet_encoder", "track": "cuda:0", "start": 1.0, "end": 3.0},
        {"name": "controlnet", "track": "edges on cuda:1", "start": 2.0, "end": 4.0},
        {"name": "fetch", "track": "LoRA night", "start": 0.0, "end": 9.0},
        {"name": "waiting", "track": "lane", "start": 0.0, "end": 9.0},
        {"name": "vae_decoder", "track": "vae_decoder", "start": 5.0, "end": 6.0},
    ]
    assert sorted(find_busy(spans)) == [(1.0, 3.0), (2.0, 4.0), (5.0, 6.0)]
    assert measure_idle(spans).total() == pytest.approx(6.0)


IDLE = [
    {"name": "request", "track": "lane", "start": 0.5, "end": 9.0},
    {"name": "text_encoder", "track": "lane", "start": 1.0, "end": 3.0},
    {"name": "text_encoder", "track": "text_encoder", "start": 1.5, "end": 2.0},
    {"name": "controlnet_attach", "track": "lane", "start": 3.5, "end": 4.0},
    {"name": "vae_decoder", "track": "lane", "start": 4.0, "end": 8.0},
    {"name": "waiting", "track": "lane", "start": 7.0, "end": 7.5},  # the narrower one tells more
    {"name": "vae_decoder", "track": "vae_decoder", "start": 4.0, "end": 7.0},
]


def test_idle_time_is_told_by_the_stage_that_it_is_in():
    assert measure_idle(IDLE) == {
        "text_encoder": 1.5,
        BETWEEN: 2.0,  # before the first and after the last one too
        "controlnet_attach": 0.5,
        "waiting": 0.5,
        "vae_decoder": 0.5,
    }
    assert measure_idle([{"name": "request", "track": "lane", "start": 1.0, "end": 2.0}]) == {BETWEEN: 1.0}


def test_what_telling_the_spans_takes_is_no_part_of_a_request():
    answered = [Answered(seconds, {"seconds": {"total": seconds - 0.6, "waiting": 0.3}}) for seconds in (10.0, 12.0)]
    outside = summarise_outside([IDLE, IDLE], answered)
    assert outside["parts"] == {
        BETWEEN: 2.0, "text_encoder": 1.5, AROUND: 0.6, "controlnet_attach": 0.5, "waiting": 0.5, "vae_decoder": 0.5,
    }  # fmt: skip
    assert list(outside["parts"])[:3] == [BETWEEN, "text_encoder", AROUND]
    assert outside["seconds"] == 5.6
    assert outside["share"] == pytest.approx(5.6 / 11, abs=1e-4)
    assert outside["requests"] == 2


def make_outside(share: float) -> dict[str, Any]:
    return {"share": share, "seconds": 0.05, "parts": {"around the lane": 0.03, "vae_decoder": 0.02}, "requests": 2}


def test_bars_compare_the_best_rows():
    rows = [
        make_row(STOCK, "1/1", 10.0),
        make_row(BEST, "1/1", 3.0),
        make_row(OURS, "1/1", 2.5, gpus=2, outside=make_outside(0.02)),
        make_row(OURS, "1/1", 2.0, gpus=3, lane={"second_gpu": "cuda:1"}, outside=make_outside(0.04)),
        make_row(OURS, "2/2", 2.0, p99_s=9.0, requests=9),  # too few to have a tail
        make_row(STOCK, "0/0", 3.8),
        make_row(OURS, "0/0", 1.0, gpus=2, lane={"second_gpu": "cuda:1"}),
        make_row(OURS, "0/0", 2.0, p99_s=20.0),
        {**describe_row(OURS, AddOns(3, 0), 50, PLACE), "failed": "a reason"},
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
    assert "| 50, 1/1, one GPU | 50.0 | 30.0 | 20.0 |" in re.sub(" +", " ", text), "where the idle ms are"
    assert "1/1, 50 steps, mean: stock diffusers / ours, ours on 3 GPUs" in text
    assert [row["add_ons"] for row in order(rows) if row["steps"] == 50] == ["0/0"] * 3 + ["1/1"] * 4 + ["3/0", "2/2"]
    assert draw_rows(rows, "sdxl").width > 500


def test_a_bar_is_of_one_machine_and_the_least_of_several():
    rows = [make_row(STOCK, "1/1", 10.0), make_row(OURS, "1/1", 2.5)]
    other = [{**row, "machine": "1 NVIDIA H200, 16 cores"} for row in rows]
    other[0]["mean_s"] = 20.0
    assert judge([*rows, *other])["speed_up_1/1_stock"].figure == pytest.approx(4.0)
    assert judge([rows[1], other[0]])["speed_up_1/1_stock"].figure is None


def test_rows_of_several_machines_say_of_which():
    here, there = make_row(STOCK, "0/0", 3.8), make_row(STOCK, "0/0", 4.9, machine="1 NVIDIA H200, 16 cores")
    assert "diffusers, stock | one GPU | 1 |" in re.sub(" +", " ", format_rows([here], {}))
    both = re.sub(" +", " ", format_rows([here, there], {}))
    assert "| one GPU (2 NVIDIA H200, 32 cores) | 1 | 20 | 3.800 |" in both
    assert "| one GPU (1 NVIDIA H200, 16 cores) | 1 | 20 | 4.900 |" in both
    assert draw_rows([here, there], "sdxl").height > draw_rows([here], "sdxl").height, "a bar for each"


def test_nothing_measured_is_no_bar_met():
    assert {bar.met for bar in judge([]).values()} == {None}
    assert "not measured" in format_rows([], judge([]))
    failed = {**describe_row(OURS, AddOns(3, 0), 50, PLACE), "failed": "a reason"}
    assert draw_rows([failed], "sdxl").width > 400, "an empty chart, where each row failed"


def begin(path, resume: bool, checkpoint: str = "shapes") -> GrowingReport:
    def judge_count(rows):
        return {"rows": Bar(len(rows), 9, "rows")}

    return GrowingReport("grid", ["grid"], path, is_same, judge_count, resume, checkpoint=checkpoint)


def test_several_calls_fill_one_report(tmp_path):
    path = tmp_path / "grid.json"
    first = begin(path, resume=True)  # nothing is there yet
    first.add(make_row(OURS, "0/0", 1.0))
    first.add({**describe_row(STOCK, AddOns(0, 0), 50, PLACE), "failed": "cut off"})
    second = begin(path, resume=True)
    assert second.has(describe_row(OURS, AddOns(0, 0), 50, PLACE))
    for other in ({"lane": {"second_gpu": "cuda:1"}}, {"layout": "two GPUs"}, {"machine": "1 NVIDIA H200, 16 cores"}):
        assert not second.has(describe_row(OURS, AddOns(0, 0), 50, {**PLACE, **other}))
    assert not second.has(describe_row(STOCK, AddOns(0, 0), 50, PLACE)), "a failure is to be measured again"
    second.add(make_row(STOCK, "0/0", 2.0))
    report = json.loads(path.read_text())
    assert [(row["system"], row["run"]) for row in report["rows"]] == [("ours", 0), ("stock", 1)]
    assert len(report["runs"]) == 2
    assert report["bars"]["rows"]["figure"] == 2
    assert begin(path, resume=False).rows == []
    with pytest.raises(LaunchError, match="has checkpoint 'shapes', not 'sdxl'"):
        begin(path, resume=True, checkpoint="sdxl")


def test_calls_at_the_same_time_keep_each_others_rows(tmp_path):
    path = tmp_path / "grid.json"
    systems = (OURS, STOCK, BEST)

    def fill(report: GrowingReport, system: str) -> None:
        for loras in range(3):
            report.add(make_row(system, f"0/{loras}", 1.0))

    reports = [begin(path, resume=True) for _ in systems]
    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, reports, systems))
    found = json.loads(path.read_text())
    assert {(row["system"], row["add_ons"]) for row in found["rows"]} == {
        (system, f"0/{loras}") for system in systems for loras in range(3)
    }
    assert len({row["run"] for row in found["rows"]}) == len(found["runs"]) == 3
    assert found["bars"]["rows"]["figure"] == 9
    reports[0].remove(make_row(STOCK, "0/1", 1.0))
    assert len(json.loads(path.read_text())["rows"]) == 8
    late = begin(path, resume=False)
    late.add(make_row(OURS, "3/0", 1.0))
    assert [row["add_ons"] for row in json.loads(path.read_text())["rows"]] == ["3/0"], "it was to begin anew"


def test_figures_of_different_gpus_do_not_come_into_one_report(tmp_path, monkeypatch):
    path = tmp_path / "grid.json"

    def describe(*gpus: str):
        machine = {"gpus": [{"name": name} for name in gpus]}
        monkeypatch.setattr("benchmarks.runs.describe_run", lambda name, _: {"benchmark": name, "machine": machine})

    describe("H200", "H200")
    begin(path, resume=True).add(make_row(OURS, "0/0", 1.0))
    describe("H200")
    assert begin(path, resume=True).rows, "one of the same two"
    describe("H100")
    with pytest.raises(LaunchError, match="measured on H200, and here is H100"):
        begin(path, resume=True)
    assert begin(path, resume=False).rows == []


def test_what_the_machine_cannot_do_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(LaunchError, match="'sdxl', which takes a GPU; allowed here: shapes"):
        work(parse_options(["grid", "--checkpoint", "sdxl", "--out", str(tmp_path)]))
    for arguments, sentence in ((["--configurations", "4/0"], "from 0/0 to 3/2"), (["--lane", "x"], "not NAME=VALUE")):
        with pytest.raises(SystemExit):
            parse_options(["grid", *arguments])
        assert sentence in capsys.readouterr().err
