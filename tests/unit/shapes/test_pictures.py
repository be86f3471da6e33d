import numpy as np
import pytest
import torch
from PIL import Image

from shapes.conditions import edges, layout
from shapes.drawing import Figure, draw
from shapes.evaluate import rendered
from shapes.geometry import SHAPES
from shapes.rendering import STYLES, render
from shapes.style_statistics import STATISTICS
from shapes.training.controlnet import condition
from shapes.world import sample_scenes


@pytest.mark.parametrize("side", [96, 128, 160])
def test_each_style_is_told_from_plain_pictures(side):
    scenes = sample_scenes(60, 9)
    for style, statistic in STATISTICS.items():
        for name, expected in ((style, True), ("plain", False)):
            pictures = ((render(scenes, side, name) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
            told = np.mean([statistic.shows_style(picture) == expected for picture in pictures])
            assert told >= 0.95, (style, name, told)


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match="sepia"):
        render(sample_scenes(1, 0), 128, "sepia")


def test_styles_all_have_a_statistic():
    assert set(STATISTICS) == set(STYLES) - {"plain"}


@pytest.mark.parametrize(("name", "by_hand"), [("edges", edges), ("layout", layout)])
def test_training_and_clients_make_the_same_reference_images(name, by_hand):
    scenes = sample_scenes(20, 4)
    pictures = rendered(scenes)
    learnt_from = condition(name, torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1)
    for picture, reference in zip(pictures, learnt_from, strict=True):
        expected = np.asarray(by_hand(Image.fromarray(picture)), dtype=np.float32) / 255
        difference = np.abs(reference.permute(1, 2, 0).numpy() - expected)
        # a layout is rounded to bytes; an edge that lies on the threshold may fall to either side
        assert difference.max() < 0.01 if name == "layout" else difference.mean() < 0.001


def test_layout_refuses_a_size_that_its_blocks_do_not_divide():
    with pytest.raises(ValueError, match="100 x 128"):
        layout(Image.new("RGB", (100, 128)))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_figure_drawn_by_hand_has_one_closed_outline(shape):
    strokes = np.asarray(edges(draw([Figure(shape, "red", 0.5, 0.5, 0.18)]))) > 127
    assert strokes.any()
    assert not strokes[64, 64].any()  # hollow
    assert not strokes[:20].any()
