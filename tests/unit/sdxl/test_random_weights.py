"""Random weights: seeded, all different, and of magnitudes that a number type of 16 bits can hold."""

import pytest
import torch
from diffusers import ControlNetModel
from torch import nn

from sdxl.architecture import META
from sdxl.loras import describe_lora
from sdxl.networks import build_vae
from sdxl.random_weights import materialise


@pytest.fixture(scope="module")
def vae():
    return build_vae(torch.float32, "cpu", seed=3)


def test_weights_depend_on_the_seed_alone(vae):
    again, other = build_vae(torch.float16, "cpu", seed=3), build_vae(torch.float32, "cpu", seed=4)
    for one, same, different in zip(vae.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.half(), same)
        assert not torch.equal(one, different)


def test_no_two_parameters_are_alike(vae):
    assert len({parameter.numpy().tobytes() for parameter in vae.parameters()}) == len(list(vae.parameters()))


@torch.inference_mode()
def test_activations_stay_far_from_fp16s_limits(vae):
    largest = []
    for layer in vae.decoder.modules():
        layer.register_forward_hook(lambda layer, inputs, output: largest.append(output.abs().max().item()))
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) / vae.config.scaling_factor
    image = vae.decode(latents).sample
    assert max(largest) < 1000
    assert 0.1 < image.std() < 2


@torch.inference_mode()
def test_controlnet_speaks_and_sees_its_image():
    with META:
        controlnet = ControlNetModel(
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            attention_head_dim=(1, 2),
            cross_attention_dim=16,
            layers_per_block=1,
            use_linear_projection=True,
        )
    materialise(controlnet, torch.float32, "cpu", 0)
    generator = torch.Generator().manual_seed(0)
    sample, prompt = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 5, 16, generator=generator)
    image = torch.rand(1, 3, 64, 64, generator=generator)
    answers = [controlnet(sample, 500, prompt, picture, return_dict=False) for picture in (image, image.flip(2))]
    for one, other in zip(*((*down, middle) for down, middle in answers), strict=True):
        assert 0.05 < one.std() < 2
        assert (one - other).std() > 0.02 * one.std()


def test_layers_of_other_kinds_are_refused():
    with META, pytest.raises(TypeError, match="'0' is a BatchNorm2d"):
        materialise(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), torch.float32, "cpu", 0)


def test_lora_has_every_attention_projection_and_the_size_of_a_real_one():
    shapes = describe_lora(64)
    assert len(shapes) == 2 * 560
    assert sum(rows * columns for rows, columns in shapes.values()) * 2 == 185_794_560
