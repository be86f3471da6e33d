import dataclasses

import numpy as np
import pytest

from shapes.drawing import Figure, draw
from shapes.evaluate import rendered, requests
from shapes.judge import Object, Request, judge, see_background, see_objects
from shapes.world import sample_scenes

RED_CIRCLE = Figure("circle", "red", 0.25, 0.5, 0.1)
BLUE_STAR = Figure("star", "blue", 0.7, 0.5, 0.18)
ASKED = Request(
    (Object("circle", "red", "small"), Object("star", "blue", "large")),
    relations=("left of",),
    background="grey",
)


def picture(*figures, background="grey"):
    return np.asarray(draw(list(figures), background))


def test_rendered_scenes_are_right_and_other_scenes_are_wrong():
    scenes = sample_scenes(200, 11)
    pictures, asked = rendered(scenes), list(requests(scenes))
    assert all(judge(drawn, request).right for drawn, request in zip(pictures, asked, strict=True))
    assert not any(judge(drawn, request).right for drawn, request in zip(pictures[1:], asked, strict=False))


def test_a_right_picture_is_right_in_every_part():
    verdict = judge(picture(RED_CIRCLE, BLUE_STAR), ASKED)
    assert dataclasses.astuple(verdict) == (True, True, True, True)


RED_STAR, BLUE_CIRCLE = dataclasses.replace(BLUE_STAR, colour="red"), dataclasses.replace(RED_CIRCLE, colour="blue")
THIRD = Figure("cross", "pink", 0.5, 0.15, 0.1)


@pytest.mark.parametrize(
    ("figures", "background", "wrong"),
    [
        ((RED_CIRCLE,), "grey", "count"),
        ((RED_CIRCLE, BLUE_STAR, THIRD), "grey", "count"),
        ((dataclasses.replace(RED_CIRCLE, colour="orange"), BLUE_STAR), "grey", "objects"),
        ((dataclasses.replace(RED_CIRCLE, shape="heart"), BLUE_STAR), "grey", "objects"),
        ((dataclasses.replace(RED_CIRCLE, radius=0.18), BLUE_STAR), "grey", "objects"),
        ((BLUE_CIRCLE, RED_STAR), "grey", "objects"),
        ((dataclasses.replace(RED_CIRCLE, x=0.7), dataclasses.replace(BLUE_STAR, x=0.25)), "grey", "relations"),
        ((dataclasses.replace(RED_CIRCLE, y=0.15), dataclasses.replace(BLUE_STAR, x=0.3, y=0.75)), "grey", "relations"),
        ((RED_CIRCLE, BLUE_STAR), "white", "background"),
    ],
)
def test_what_is_wrong_is_named(figures, background, wrong):
    verdict = judge(picture(*figures, background=background), ASKED)
    assert not verdict.right
    assert not getattr(verdict, wrong)


def test_noise_is_no_object():
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert not judge(noise, ASKED).right


def test_shapes_grown_together_are_unknown():
    seen = see_objects(picture(RED_CIRCLE, dataclasses.replace(BLUE_STAR, x=0.4)))
    assert [thing.shape for thing in seen] == ["unknown"]


def test_an_empty_canvas_shows_nothing():
    assert see_objects(picture(background="black")) == []
    assert see_background(picture(background="black")) == "black"


def test_an_open_size_fits_both():
    asked = Request((Object("star", "blue", ""),), background="white")
    for radius in (0.1, 0.18):
        assert judge(picture(dataclasses.replace(BLUE_STAR, radius=radius), background="white"), asked).right
