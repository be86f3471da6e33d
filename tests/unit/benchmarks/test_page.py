"""The page of results."""

import json
import re

import pytest

from benchmarks.grid.promises import judge
from benchmarks.grid.rows import describe_row, summarise
from benchmarks.page.sections import SECTIONS
from benchmarks.serving.load import Answered
from benchmarks.serving.systems import OURS, STOCK, AddOns
from commands.benchmark import BENCHMARKS, parse_options, work
from launch.problems import LaunchError

TWO, ONE = "2 NVIDIA H200, 32 cores", "1 NVIDIA H200, 16 cores"
RUN = {
    "date": "2026-01-02T03:04:05+00:00",
    "command": "scripts/benchmark grid --steps 50",
    "commit": "abc1234",
    "machine": {"processor": "a processor", "cores": 2, "gpus": [{"name": "NVIDIA H200"}, {"name": "NVIDIA H200"}]},
    "versions": {"torch": "2.11.0", "triton": None},
}


def write_page(folder, *options: str) -> str:
    work(parse_options(["page", "--results", str(folder), *options]))
    return (folder / "README.md").read_text()


def test_every_section_is_a_benchmark():
    assert {section.name for section in SECTIONS} == BENCHMARKS.keys() - {"hold", "page"}


def test_what_is_missing_is_said_with_its_command(tmp_path):
    text = write_page(tmp_path)
    for section in SECTIONS:
        assert f"`scripts/benchmark {section.name} --out docs/results`" in text


def test_measured_stands_beside_published(tmp_path):
    rows = [
        {
            **describe_row(system, add_ons, 50, {"machine": machine, "layout": layout, "lane": {}}),
            **summarise([Answered(seconds, {"seconds": {}})], gpus),
            "peak_memory_gb": [20.0],
            "run": 1,
        }
        for system, add_ons, seconds, gpus, layout, machine in (
            (STOCK, AddOns(1, 1), 12.0, 1, "one GPU", TWO),
            (STOCK, AddOns(0, 0), 3.6, 1, "one GPU", TWO),
            (OURS, AddOns(1, 1), 2.4, 1, "one GPU", TWO),
            (OURS, AddOns(1, 1), 2.0, 2, "two GPUs", TWO),
            (STOCK, AddOns(1, 1), 15.0, 1, "one GPU", ONE),
            (OURS, AddOns(1, 1), 2.5, 1, "one GPU", ONE),
            (STOCK, AddOns(3, 0), 12.0, 1, "one GPU", ONE),
        )
    ]
    bars = {name: bar.as_json() for name, bar in judge(rows).items()}
    replaced = {**RUN, "command": "scripts/benchmark grid --steps 30"}
    runs = [replaced, RUN]
    report = {"benchmark": "grid", "checkpoint": "sdxl", "note": "", "bars": bars, "runs": runs, "rows": rows}
    (tmp_path / "grid.json").write_text(json.dumps(report))
    text = write_page(tmp_path)
    lines = [line for line in text.splitlines() if line.startswith("| 1/1 ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    published = ["1/1", "7.57 (1)", "5.40 (4)", "1.89 (4)", "4.02×", "1.00×"]
    assert cells == [
        [*published, ONE, "15.00 (1)", "–", "2.50 (1)", "6.00×", "6.00×", "–"],
        [*published, TWO, "12.00 (1)", "–", "2.40 (1)", "5.00×", "5.00×", "–"],
        [*published, TWO, "12.00 (1)", "–", "2.00 (2)", "6.00×", "3.00×", "–"],
    ]
    assert re.search(r"^\| 3/0 .* 12.00 \(1\) \| +– \| +– \|", text, re.MULTILINE), "stock's alone"
    assert f"its version of then): 1.25 ({TWO})." in text
    assert "H800" in text and "Here: NVIDIA H200; sdxl" in text
    assert "`scripts/benchmark grid --steps 50` on 2 × NVIDIA H200; torch 2.11.0" in text
    assert "--steps 30`" not in text, "a run of which no row is left"
    promises = text.split("## ")[1]
    assert "| 1/1, 50 steps, mean: stock diffusers / ours" in promises and "met" in promises
    assert write_page(tmp_path, "--check") == text


def test_the_page_of_the_repository_is_what_its_figures_give():
    assert work(parse_options(["page", "--check"])) == 0


def test_a_page_that_is_not_up_to_date_is_told(tmp_path):
    (tmp_path / "README.md").write_text(write_page(tmp_path) + "typed by hand")
    with pytest.raises(LaunchError, match="run `scripts/benchmark page`"):
        write_page(tmp_path, "--check")
    with pytest.raises(LaunchError, match="nowhere', which is no folder"):
        write_page(tmp_path / "nowhere")
