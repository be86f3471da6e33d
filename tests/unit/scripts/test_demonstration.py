"""What the demo lays out and prints."""

import pytest
from PIL import Image

from demonstration.reference import make_reference
from demonstration.sheet import MARGIN, TILE, make_sheet
from demonstration.times import format_times
from launch.problems import LaunchError


def test_small_pictures_are_enlarged_by_whole_factors():
    sheet = make_sheet("title", {"one": Image.new("RGB", (128, 128), "red"), "two": Image.new("RGB", (96, 96), "blue")})
    assert sheet.width == MARGIN + TILE + MARGIN + 192 + MARGIN
    assert sheet.getpixel((MARGIN + TILE // 2, sheet.height // 2)) == (255, 0, 0)


def test_stage_that_did_not_run_is_blank():
    table = format_times({"plain": {"unet": 1.0, "total": 1.5}, "both": {"unet": 1.0, "loras": 0.02, "total": 2.0}})
    assert table.splitlines()[0].split() == ["unet", "loras", "total"]
    assert table.splitlines()[1].split() == ["plain", "1000", "1500"]
    assert table.splitlines()[2].split() == ["both", "1000", "20", "2000"]


@pytest.mark.parametrize("controlnet", ["edges", "layout"])
def test_reference_is_drawn(controlnet):
    reference = make_reference(controlnet, None)
    assert reference.size == (128, 128)
    assert reference.convert("L").getextrema() != (0, 0)


def test_reference_of_an_unknown_controlnet_has_to_be_given(tmp_path):
    with pytest.raises(LaunchError, match=r"'depth'.*edges and layout.*--control-image"):
        make_reference("depth", None)
    Image.new("RGB", (64, 64)).save(tmp_path / "depth.png")
    assert make_reference("depth", tmp_path / "depth.png").size == (64, 64)


def test_reference_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(LaunchError, match=r"--control-image .*broken\.png cannot be read"):
        make_reference("edges", tmp_path / "broken.png")
