import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from swiftdiffusion.errors import InvalidArgument, NotFound
from swiftdiffusion.request.images import ENCODERS, JPEG_EXIF_MOST
from swiftdiffusion.request.limits import Limits
from swiftdiffusion.request.parse import parse_request

LIMITS = Limits(width=128, height=128, size_min=64, size_max=256)


def encode(size=(16, 16), file_format="PNG", color=(250, 10, 20)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, file_format)
    return buffer.getvalue()


def tensor(value):
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], str | bytes):
        return np.array([v.encode() if isinstance(v, str) else v for v in values], dtype=np.object_)
    return np.array(values, dtype=np.float32 if isinstance(values[0], float) else None)


def parse(**inputs):
    tensors = {name: tensor(value) for name, value in ({"prompt": "a red circle"} | inputs).items()}
    return parse_request(tensors, LIMITS, lambda wanted: ["edges", "layout"])


def test_a_prompt_alone_gets_the_defaults():
    request = parse()
    assert (request.steps, request.guidance_scale, request.width) == (30, 5.0, 128)
    assert request.negative_prompt is None
    assert request.lora_bound == 5
    assert 0 <= request.seed < 2**32
    assert request.seed != parse().seed


def test_what_a_jpeg_cannot_hold_is_refused_and_what_it_just_holds_is_not():
    limits = Limits(loras_max=64)

    def ask(output_format, letters):
        names = [f"{number:02}" + "é" * letters for number in range(64)]
        given = {"prompt": "a red circle", "loras": names, "output_format": output_format}
        tensors = {name: tensor(value) for name, value in given.items()}
        return parse_request(tensors, limits, lambda wanted: [])

    fits = max(letters for letters in range(160, 180) if _fits(ask, letters))
    image = Image.open(io.BytesIO(ENCODERS["jpeg"](np.zeros((8, 8, 3), np.uint8), ask("jpeg", fits).describe())))
    assert len(image.info["exif"]) > JPEG_EXIF_MOST - 64 * 6
    with pytest.raises(InvalidArgument, match=r"output_format is jpeg, .* 65533 bytes; .* png and webp hold it"):
        ask("jpeg", fits + 1)
    too_long = ask("webp", fits + 1).describe()
    with pytest.raises(ValueError, match="too long"):
        ENCODERS["jpeg"](np.zeros((8, 8, 3), np.uint8), too_long)
    for holds in ("png", "webp"):
        ENCODERS[holds](np.zeros((8, 8, 3), np.uint8), too_long)


def _fits(ask, letters):
    try:
        return bool(ask("jpeg", letters))
    except InvalidArgument:
        return False


def test_everything_is_echoed():
    request = parse(
        negative_prompt="blue",
        seed=7,
        steps=4,
        loras=["night", "outline"],
        lora_scales=[0.8, -0.25],
        controlnets=["edges"],
        control_images=[encode()],
        control_end=[0.5],
    )
    said = request.describe()
    assert said["lora_scales"] == [0.8, -0.25]  # the numbers that were meant, not their nearest fp32
    assert said["control_end"] == [0.5]
    assert said["negative_prompt"] == "blue"
    assert said["lora_bound"] == 3  # the default, kept below the number of steps


def test_reference_images_are_fitted_and_decoded():
    for file_format in ("PNG", "JPEG", "WEBP"):
        use = parse(controlnets="edges", control_images=encode(file_format=file_format), width=64).controls[0]
        assert use.reference.decode().shape == (128, 64, 3)
        assert abs(int(use.reference.decode()[5, 5, 0]) - 250) < 8


def test_base64_images():
    image = base64.b64encode(encode())
    assert parse(controlnets="edges", control_images=image, base64=True).controls[0].reference.decode()[0, 0, 0] == 250
    with pytest.raises(InvalidArgument, match=r"control_images\[0\] is not base64"):
        parse(controlnets="edges", control_images=encode(), base64=True)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])  # a WebP is read as a whole at once
def test_broken_data_behind_a_good_head_are_refused_when_they_are_decoded(file_format):
    generator = np.random.default_rng(1)
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, file_format)
    cut = buffer.getvalue()[:-500]
    use = parse(controlnets="edges", control_images=cut).controls[0]
    with pytest.raises(InvalidArgument, match=re.escape(f"control_images[0] ({len(cut)} bytes) is not a whole")):
        use.reference.decode()


def image_bomb():
    """A PNG of a few bytes that announces 30,000 x 30,000 pixels."""
    data = bytearray(encode())
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    return bytes(data)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": b"\xff\xfe"}, "prompt is not UTF-8"),
        ({"prompt": "x" * 2001}, "2001 characters; at most 2000"),
        ({"prompt": ["a", "b"]}, "prompt has 2 values"),
        ({"steps": 0}, "steps is 0; allowed: 1 to 100"),
        ({"steps": 10_000}, "steps is 10000; allowed: 1 to 100"),
        ({"seed": -1}, "seed is -1"),
        ({"width": 100}, "width is 100; it must be a multiple of 8, such as 96 or 104"),
        ({"height": 1024}, "height is 1024; allowed: 64 to 256"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale is inf"),
        ({"scheduler": "Euler"}, "scheduler is 'Euler'; allowed: EulerDiscreteScheduler"),
        ({"output_format": "gif"}, "output_format is 'gif'; allowed: png, jpeg, webp, raw"),
        ({"loras": ["a", "b"], "lora_scales": [1.0]}, "lora_scales has 1 values and loras 2 names"),
        ({"lora_scales": [1.0]}, "lora_scales has 1 values and loras 0 names"),
        ({"loras": "a", "lora_scales": [float("nan")]}, r"lora_scales[0] is nan; allowed: -10 to 10"),
        ({"loras": ["a", "a"]}, "loras names 'a' twice"),
        ({"loras": [f"l{i}" for i in range(9)]}, "loras has 9 names; at most 8"),
        ({"steps": 5, "lora_bound": 5}, "lora_bound is 5; allowed: 0 to 4"),
        ({"controlnets": "edges"}, "control_images has 0 pictures and controlnets 1 names"),
        ({"control_images": encode()}, "control_images has 1 pictures and controlnets 0 names"),
        ({"controlnets": "edges", "control_images": b"GIF89a"}, "control_images[0] (6 bytes) is not a whole"),
        ({"controlnets": "edges", "control_images": image_bomb()}, "control_images[0]"),
        (
            {
                "controlnets": "edges",
                "control_images": encode(),
                "control_start": [0.5],
                "control_end": [0.5],
            },
            "control_start[0] is 0.5; it must be below control_end[0], 0.5",
        ),
        ({"controlnets": "edges", "control_images": encode(), "control_end": [1.5]}, "control_end[0] is 1.5"),
    ],
)
def test_bad_input_is_refused_by_name(inputs, message):
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        parse(**inputs)


def test_an_unserved_controlnet_is_not_found():
    with pytest.raises(NotFound, match=r"controlnets names '\.\./edges'; served: edges, layout"):
        parse(controlnets="../edges", control_images=encode())
