"""JPEGs in bands: the same picture as Pillow's, whatever the size."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from swiftdiffusion.request.jpeg import BAND, write_jpeg

NOTE = b"ASCII\0\0\0a note"


def draw(height, width):
    """Noise over a gradient: the means of neighbouring blocks differ, so that a lost one would show."""
    generator = np.random.default_rng(height * 10_000 + width)
    gradient = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    return (gradient + generator.integers(0, 56, gradient.shape)).astype(np.uint8)


@pytest.fixture
def exif():
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = NOTE
    return exif


@pytest.mark.parametrize(
    "size", [(8, 8), (BAND, 24), (BAND + 8, 16), (3 * BAND, 40), (1024, 1032), (10 * BAND + 72, 8), (BAND + 3, 13)]
)
def test_has_the_pixels_of_one_scan(size, exif):
    pixels = draw(*size)
    whole = io.BytesIO()
    Image.fromarray(pixels).save(whole, "JPEG", quality=95, subsampling=0)
    with Image.open(io.BytesIO(write_jpeg(pixels, 95, exif))) as picture, Image.open(whole) as wanted:
        assert picture.size == (size[1], size[0])
        assert np.array_equal(np.asarray(picture), np.asarray(wanted))
        assert picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] == NOTE


def test_says_what_it_holds_once(exif):
    """One head, one end, and between the bands the eight restart markers in turn."""
    file = write_jpeg(draw(10 * BAND, 16), 95, exif)
    assert [file.count(marker) for marker in (b"\xff\xd8", b"\xff\xd9", b"\xff\xc0", b"\xff\xda", b"\xff\xdd")] == [
        1
    ] * 5
    scan = file[file.index(b"\xff\xda") :]
    restarts = [scan[at + 1] for at in range(len(scan) - 1) if scan[at] == 0xFF and 0xD0 <= scan[at + 1] <= 0xD7]
    assert restarts == [0xD0 + number % 8 for number in range(9)]
