"""Prices of shortcuts: what is drawn, how it is compared; the server's part is in `tests/server`."""

import numpy as np
import pytest

from benchmarks.quality.distance import FeatureDistance
from benchmarks.quality.drawing import draw_late, draw_reference
from benchmarks.quality.results import compare, format_rows, judge
from benchmarks.quality.sheet import COLUMNS, GAP, HEAD, LABEL, draw_sheet
from benchmarks.quality.subjects import SETS, SIDE, draw_subjects
from benchmarks.quality.variants import list_variants
from launch.progress import Progress
from shapes.checkpoint import pipeline_folder
from shapes.evaluate import rendered, unseen_scenes


@pytest.fixture(scope="module")
def distance() -> FeatureDistance:
    return FeatureDistance(pipeline_folder())


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return rendered(unseen_scenes(2, 78))


def test_the_distance_grows_with_noise_and_with_what_is_shown(distance, pictures):
    noise = np.random.default_rng(0).standard_normal(pictures[0].shape)
    noisy = [np.clip(pictures[0] + amount * noise, 0, 255).astype(np.uint8) for amount in (0, 4, 16, 64)]
    values = [distance.measure(pictures[0], picture) for picture in noisy]
    assert values[0] == 0
    assert values == sorted(values)
    assert distance.measure(*pictures) > values[1]


def test_what_is_drawn_is_what_the_judge_is_told(pictures):
    plain, lora, control = (draw_subjects(kind, 2, 4) for kind in SETS)
    assert [one.is_right(picture) for one, picture in zip(plain, pictures, strict=True)] == [True, True]
    assert not plain[0].is_right(pictures[1])
    assert [one.request["loras"] for one in lora] == [["outline"], ["pixelated"]]
    assert not lora[0].is_right(pictures[0]), "filled shapes are no outlines"
    assert control[0].request["controlnets"] == ["edges"]
    assert all("controlnets" not in one.request for one in (*plain, *lora))


def test_pictures_are_compared_with_the_reference(distance, pictures):
    subjects = draw_subjects("plain", 2, 4)
    same = compare(subjects, list(pictures), list(pictures), distance)
    assert same == {"right_percent": 100.0, "ssim": 1.0, "distance": 0.0, "max_difference": 0}
    other = compare(subjects, [pictures[1], pictures[1]], list(pictures), distance)
    assert (other["right_percent"], other["max_difference"] > 100, other["ssim"] < 1) == (50.0, True, True)


def test_the_sheet_has_a_row_for_each_way_and_leaves_free_what_it_has_not_drawn(pictures):
    sheet = draw_sheet({"all": {kind: list(pictures) for kind in SETS}, "one": {"lora": list(pictures[:1])}})
    drawn = np.array(sheet)
    lefts = [LABEL + place * (COLUMNS * (SIDE + GAP) + GAP) for place in range(len(SETS))]
    for left in lefts:
        np.testing.assert_array_equal(drawn[HEAD : HEAD + SIDE, left : left + SIDE], pictures[0])
    second = drawn[HEAD + SIDE + GAP :]
    np.testing.assert_array_equal(second[:SIDE, lefts[1] : lefts[1] + SIDE], pictures[0])
    assert (second[:, lefts[0] : lefts[1]] == 255).all()
    assert (second[:, lefts[1] + SIDE :] == 255).all()


def test_late_loras_are_the_reference_at_step_0_and_another_picture_later(distance):
    subjects = {"lora": draw_subjects("lora", 1, 3)}
    with Progress("drawing") as progress:
        reference = draw_reference(subjects, "fp32", progress)["lora"]
    prices = [compare(subjects["lora"], draw_late(subjects["lora"], step, 3), reference, distance) for step in (0, 3)]
    assert prices[0]["max_difference"] <= 1
    assert prices[1]["ssim"] < prices[0]["ssim"] - 0.01


def test_variants_are_what_the_machine_can_draw():
    names = [[variant.name for variant in list_variants(gpus)] for gpus in (0, 1, 2)]
    assert names[0] == ["exact"]
    assert {*names[1]} - {*names[0]} == {"fp16", "fused", "ipc", "lane", "default"}
    assert {*names[2]} - {*names[1]} == {"split"}


def make_row(variant: str, right: float, difference: int):
    figures = {"right_percent": right, "ssim": 1.0, "distance": 0.0, "max_difference": difference}
    return {"variant": variant, "label": variant, "sets": {"plain": figures}}


def test_bars_tell_what_is_lost():
    rows = [make_row("reference", 98.0, 0), make_row("exact", 98.0, 2), make_row("default", 97.5, 40)]
    bars = judge(rows)
    assert {name: (bar.figure, bar.met) for name, bar in bars.items()} == {
        "exact_max_difference": (2, False),
        "points_lost_default": (0.5, True),
    }
    assert {bar.met for bar in judge([]).values()} == {None}
    text = format_rows([*rows, {"variant": "split", "label": "split", "failed": "no second GPU"}], bars)
    assert "split: no second GPU" in text
