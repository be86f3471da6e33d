"""PNG files, read back by Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from swiftdiffusion.request.png import PART_BYTES, write_png

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 24, 3), (300, 333, 3), (1024, 768, 3), (2, PART_BYTES, 3)])
@pytest.mark.parametrize("kind", ["noise", "slope", "flat"])
def test_pillow_reads_what_was_written(shape, kind):
    pixels = {
        "noise": lambda: RANDOM.integers(0, 256, shape, dtype=np.uint8),
        "slope": lambda: (np.indices(shape).sum(axis=0) // 5).astype(np.uint8),
        "flat": lambda: np.full(shape, 200, np.uint8),
    }[kind]()
    text = '{"prompt": "größer ▶"}'
    file = write_png(pixels, ("swiftdiffusion", text))
    with Image.open(io.BytesIO(file), formats=["PNG"]) as checked:
        checked.verify()  # checksums
    with Image.open(io.BytesIO(file)) as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), pixels)
        assert image.info["swiftdiffusion"] == text


def test_smooth_pictures_become_about_as_small_as_pillow_makes_them():
    coarse = Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    picture = coarse.resize((512, 512), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    assert len(write_png(np.asarray(picture), ("a", "b"))) < 1.3 * len(buffer.getvalue())
