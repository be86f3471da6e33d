"""What the `vae` backend takes."""

import re

import numpy as np
import pytest
import torch

from shapes.checkpoint import pipeline_folder
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.placement import Placement
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

CPU = Placement(torch.device("cpu"), torch.float32)
PIXELS_PER_LATENT = 4


@pytest.fixture(scope="module")
def service():
    return VaeDecoderService(VaeDecoderConfiguration(pipeline_folder(), size_max=32 * PIXELS_PER_LATENT), CPU)


@pytest.mark.parametrize("sides", [(1, 1), (32, 3), (32, 32)])
def test_latents_become_pixels(service, sides):
    pixels = service.answer({"latents": np.zeros((1, 4, *sides), np.float32)})["pixels"]
    assert pixels.shape == (*(PIXELS_PER_LATENT * side for side in sides), 3)


def test_no_file_is_made_without_a_gpu(service):
    latents = np.zeros((1, 4, 2, 2), np.float32)
    assert service.answer({"latents": latents, "jpeg_quality": np.array([95], np.int32)}).keys() == {"pixels", "ran"}
    with pytest.raises(InvalidArgument, match="'jpeg_encoder' is 'gpu', but cpu is no GPU; else: auto, host"):
        VaeDecoderService(VaeDecoderConfiguration(pipeline_folder(), jpeg_encoder="gpu"), CPU)


@pytest.mark.parametrize("quality", [-1, 101])
def test_a_quality_is_a_percentage(service, quality):
    with pytest.raises(InvalidArgument, match=f"jpeg_quality is {quality}; allowed: 0 to 100"):
        service.answer({"latents": np.zeros((1, 4, 2, 2), np.float32), "jpeg_quality": np.array([quality], np.int32)})


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 4, 8, 8), (1, 4, 33, 8), (1, 4, 8, 33), (1, 4, 0, 8), (4, 8, 8)])
def test_other_latents_are_refused(service, shape):
    words = re.escape(f"latents has shape {list(shape)}; allowed: [1, 4, 1 to 32, 1 to 32]")
    with pytest.raises(InvalidArgument, match=words):
        service.answer({"latents": np.zeros(shape, np.float32)})


def test_a_size_must_be_possible():
    with pytest.raises(InvalidArgument, match="'size_max' is 0; it must lie in"):
        VaeDecoderConfiguration(pipeline_folder(), size_max=0)


def test_an_encoder_must_be_known():
    with pytest.raises(InvalidArgument, match="'jpeg_encoder' is 'cpu'; allowed: auto, gpu, host"):
        VaeDecoderConfiguration(pipeline_folder(), jpeg_encoder="cpu")
