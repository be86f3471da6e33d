import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image

from swiftdiffusion.request.answer import encode_picture, encode_progress
from swiftdiffusion.request.images import encode_preview
from swiftdiffusion.request.limits import PROMPT_MOST, Limits
from swiftdiffusion.request.parse import parse_request
from swiftdiffusion.request.request import LoraUse
from swiftdiffusion.request.result import Picture, Progress

REQUEST = parse_request({"prompt": np.array(["ein Kreis, größer".encode()], dtype=object)}, Limits(), list)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def answer(decoded=None, **changes):
    picture = Picture(replace(REQUEST, **changes), decoded or {"pixels": PIXELS}, [], [], False, {"total": 1.0})
    return {name: array.tolist() if array.dtype == object else array for name, array in encode_picture(picture).items()}


def test_png_is_exact_and_carries_the_request():
    image = Image.open(io.BytesIO(answer()["image"][0]))
    assert np.array_equal(np.asarray(image), PIXELS)
    assert json.loads(image.info["swiftdiffusion"])["prompt"] == "ein Kreis, größer"


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_lossy_formats_carry_the_request(output_format):
    image = Image.open(io.BytesIO(answer(output_format=output_format)["image"][0]))
    assert image.format == output_format.upper()
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert json.loads(comment.removeprefix(b"ASCII\0\0\0"))["seed"] == REQUEST.seed


def test_a_jpeg_encoded_elsewhere_is_given_the_request():
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", quality=90)
    outputs = answer({"jpeg": np.frombuffer(file.getvalue(), np.uint8)}, output_format="jpeg")
    image = Image.open(io.BytesIO(outputs["image"][0]))
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(file)))
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert json.loads(comment.removeprefix(b"ASCII\0\0\0"))["prompt"] == REQUEST.prompt
    assert json.loads(outputs["info"][0])["jpeg_encoder"] == "gpu"


def test_a_jpeg_holds_the_longest_prompts():
    """Of characters that take the most bytes, with as many and as long names as the defaults allow."""
    longest = "\N{GRINNING FACE}" * PROMPT_MOST
    loras = tuple(LoraUse(str(number) * 128, -1 / 3) for number in range(Limits.loras_max))
    changes = {"prompt": longest, "negative_prompt": longest, "loras": loras, "output_format": "jpeg"}
    image = Image.open(io.BytesIO(answer(**changes)["image"][0]))
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert json.loads(comment.removeprefix(b"ASCII\0\0\0"))["negative_prompt"] == longest


def test_raw_gives_pixels_and_no_image():
    outputs = answer(output_format="raw")
    assert outputs.keys() == {"pixels", "info"}
    assert np.array_equal(outputs["pixels"], PIXELS)


def test_base64_is_text():
    assert base64.b64decode(answer(base64=True)["image"][0]) == answer()["image"][0]


def test_info_tells_the_resolved_request():
    info = json.loads(answer()["info"][0])
    assert info["request"]["steps"] == REQUEST.steps
    assert info["seconds"] == {"total": 1.0}
    assert "jpeg_encoder" not in info
    assert json.loads(answer(output_format="jpeg")["info"][0])["jpeg_encoder"] == "host"


def test_progress_has_a_preview_only_when_there_is_one():
    assert encode_progress(Progress(1, 30, 0.5, b""), as_text=False).keys() == {"step", "steps", "seconds"}
    preview = encode_preview(np.zeros((512, 256, 3), np.uint8))
    outputs = encode_progress(Progress(5, 30, 0.5, preview), as_text=False)
    assert Image.open(io.BytesIO(outputs["preview"][0])).size == (48, 96)


def test_progress_survives_the_way_between_processes():
    for progress in (Progress(1, 30, 0.125, b""), Progress(30, 30, 9.5, b"\xff\xd8 a picture")):
        assert Progress.unpack(progress.pack()) == progress
