"""JPEGs encoded by the GPU, against Pillow's."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from shapes.checkpoint import pipeline_folder
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.jpeg import insert_exif, write_jpeg
from swiftdiffusion.services.nvjpeg import find_nvjpeg
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
torchvision = pytest.importorskip("torchvision")

GPU = torch.device("cuda", 0)


def draw(size, noise):
    """A gradient in three directions, with noise of so many levels."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / max(size)
    smooth = np.stack([x, y, (x + y) / 2], -1) * (255 - noise)
    return (smooth + np.random.default_rng(0).integers(0, noise + 1, smooth.shape)).astype(np.uint8)


def open_file(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)


@pytest.mark.parametrize("noise", [0, 20, 255])
@pytest.mark.parametrize("size", [(1024, 1024), (768, 1344), (64, 72), (67, 45)])
def test_loses_no_more_than_pillow(size, noise):
    pixels = draw(size, noise)
    file = find_nvjpeg(GPU)(torch.from_numpy(pixels).to(GPU), 95)
    pillows = io.BytesIO()
    Image.fromarray(pixels).save(pillows, "JPEG", quality=95, subsampling=0)
    ours, theirs = (np.abs(open_file(data) - pixels).mean() for data in (file.tobytes(), pillows.getvalue()))
    assert ours <= 1.05 * theirs + 0.05
    assert len(file) <= 1.05 * len(pillows.getvalue()) + 200


def test_takes_metadata():
    exif = Image.Exif()
    exif[270] = "a note"
    file = find_nvjpeg(GPU)(torch.full((64, 64, 3), 100, dtype=torch.uint8, device=GPU), 95)
    image = Image.open(io.BytesIO(insert_exif(file.data, exif)))
    assert image.getexif()[270] == "a note"
    assert np.abs(np.asarray(image).astype(int) - 100).max() <= 1


def test_a_service_gives_a_file_or_pixels():
    place = Placement(GPU, torch.float16)
    latents = {"latents": np.random.default_rng(0).standard_normal((1, 4, 16, 16)).astype(np.float32)}
    service = VaeDecoderService(VaeDecoderConfiguration(pipeline_folder(), jpeg_encoder="gpu"), place)
    pixels = service.answer(latents)["pixels"]
    file = service.answer({**latents, "jpeg_quality": np.array([95], np.int32)})
    assert file.keys() == {"jpeg", "ran"}
    ours, pillows = file["jpeg"].tobytes(), write_jpeg(pixels, 95, Image.Exif())
    ours_off, pillows_off = (np.abs(open_file(data) - pixels).mean() for data in (ours, pillows))
    assert ours_off <= 1.05 * pillows_off
    on_host = VaeDecoderService(VaeDecoderConfiguration(pipeline_folder(), jpeg_encoder="host"), place)
    assert on_host.answer({**latents, "jpeg_quality": np.array([95], np.int32)}).keys() == {"pixels", "ran"}


def test_what_the_gpu_cannot_encode_is_left_to_the_host(monkeypatch):
    def fail(pixels, quality):
        raise RuntimeError("image encoding failed: 5")

    service = VaeDecoderService(VaeDecoderConfiguration(pipeline_folder()), Placement(GPU, torch.float16))
    monkeypatch.setattr(service, "_write_jpeg", fail)
    latents = {"latents": np.zeros((1, 4, 16, 16), np.float32), "jpeg_quality": np.array([95], np.int32)}
    assert service.answer(latents).keys() == {"pixels", "ran"}
