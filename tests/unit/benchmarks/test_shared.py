"""What all benchmarks share: bars, tables, charts, the report's file."""

import json
from collections import Counter

import pytest

from benchmarks.bars import Bar, divide, format_bars
from benchmarks.chart import COLOURS, Groups, draw_chart
from benchmarks.report import describe_run, name_machine, write_report
from benchmarks.table import format_table


def test_a_bar_is_met_at_its_value_and_missed_above():
    assert Bar(0.85, 0.85, "").met is True
    assert Bar(0.86, 0.85, "").met is False
    assert Bar(None, 0.85, "").met is None
    assert [Bar(figure, 2.5, "", at_least=True).met for figure in (2.4, 2.5, None)] == [False, True, None]
    expected = {"figure": 0.1235, "bar": 1, "meaning": "a / b", "at_least": False, "met": True}
    assert Bar(0.123456, 1, "a / b").as_json() == expected


def test_bars_are_told_with_their_direction():
    lines = format_bars({"a": Bar(3.0, 2.0, "more", at_least=True), "b": Bar(None, 0.5, "less")}).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["|", "more", "|", "3", "|", "≥", "2", "|", "met", "|"],
        ["|", "less", "|", "–", "|", "≤", "0.5", "|", "not", "measured", "|"],
    ]


@pytest.mark.parametrize(("dividend", "divisor"), [(None, 1.0), (1.0, None), (1.0, 0.0)])
def test_a_ratio_of_what_is_not_there_is_none(dividend, divisor):
    assert divide(dividend, divisor) is None


def test_bars_of_a_chart_are_as_long_as_their_values():
    panels: dict[str, Groups] = {
        "time, ms": {"small": {"ours": 10.0, "theirs": 40.0}, "large": {"ours": 20.0, "theirs": None}}
    }
    chart = draw_chart("title", "subtitle", ["ours", "theirs"], panels)
    lengths = {}
    for colour in COLOURS[:2]:
        drawn = tuple(bytes.fromhex(colour[1:]))
        runs = Counter(sum(chart.getpixel((x, y)) == drawn for x in range(chart.width)) for y in range(chart.height))
        # of a bar there are many lines; the legend's squares are shorter, and text has a few such pixels
        lengths[colour] = sorted(length for length, lines in runs.items() if length > 40 and lines > 20)
    (theirs,) = lengths[COLOURS[1]]
    small, large = lengths[COLOURS[0]]
    assert small / theirs == pytest.approx(1 / 4, abs=0.02)
    assert large / theirs == pytest.approx(1 / 2, abs=0.02)


def test_a_machine_is_named_with_what_was_used_of_it():
    whole = {"processor": "a processor", "gpus": [{"name": "NVIDIA H200"}] * 2, "cores": 16, "cores_in_all": 32}
    assert name_machine({**whole, "visible_gpus": None}) == "2 × NVIDIA H200"
    assert name_machine({**whole, "visible_gpus": "1"}) == "2 × NVIDIA H200 (GPU 1 of them, 16 of 32 cores)"
    assert name_machine({**whole, "visible_gpus": "0,1", "cores": 32}) == "2 × NVIDIA H200", "all of it"
    assert name_machine({**whole, "gpus": []}) == "no GPU, a processor"


def test_a_table_is_markdown():
    assert format_table(["name", "ms"], [["one", "1.5"], ["another", "22.5"]]).splitlines() == [
        "| name    |   ms |",
        "|---------|-----:|",
        "| one     |  1.5 |",
        "| another | 22.5 |",
    ]


def test_a_report_tells_what_it_was_made_with_and_replaces_the_last(tmp_path):
    report = describe_run("step", ["step", "--out", "a folder", "--size", "a b"])
    assert report["command"] == "scripts/benchmark step --size 'a b'"
    for elsewhere in (["--out=/tmp/x"], ["--checkpoint-folder", "/tmp/x", "--out", "/tmp/y"]):
        assert describe_run("step", ["step", *elsewhere])["command"] == "scripts/benchmark step"
    assert report["versions"]["torch"]
    assert report["machine"]["cores"] >= 1
    write_report({"old": True}, tmp_path / "step.json")
    write_report(report, tmp_path / "step.json")
    assert json.loads((tmp_path / "step.json").read_text()) == report
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report({"figure": float("nan")}, tmp_path / "step.json")
    assert json.loads((tmp_path / "step.json").read_text()) == report
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == ["step.json"]


def test_no_series_of_a_chart_is_left_out():
    names = [str(number) for number in range(len(COLOURS) + 1)]
    alone = draw_chart("t", "s", names, {"p": {"g": dict.fromkeys(names) | {names[-1]: 1.0}}})
    nothing = draw_chart("t", "s", names, {"p": {"g": dict.fromkeys(names)}})
    assert alone.tobytes() != nothing.tobytes()
