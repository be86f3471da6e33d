"""`scripts/demo` as a newcomer runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from launch.paths import CHECKOUT

LIMIT_SECONDS = 180.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of pictures, and what was printed."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(CHECKOUT / "scripts" / "demo"), "--venv", sys.prefix, "--output", str(folder)]
    ended = subprocess.run([*command, "--steps", "4"], capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout


def test_each_add_on_changes_the_picture(demo):
    folder, _ = demo
    names = ("plain", "with-edges", "with-night", "with-both")
    pictures = [np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) for name in names]
    assert len({picture.tobytes() for picture in pictures}) == len(names)


def test_pictures_carry_their_request(demo):
    folder, _ = demo
    texts = Image.open(folder / "with-both.png").info
    request = next(json.loads(text) for text in texts.values() if isinstance(text, str) and text.startswith("{"))
    assert request["steps"] == 4


def test_sheet_and_times_are_there(demo):
    folder, output = demo
    assert Image.open(folder / "side-by-side.png").width > 5 * 256
    assert str(folder / "side-by-side.png") in output
    assert [line.split()[0] for line in output.splitlines() if line.startswith(("plain", "with"))] == [
        "plain",
        "with",
        "with",
        "with",
    ]
    assert "vae_decoder" in output
