"""The configuration is the published one."""

import pytest
import torch

from sdxl.architecture import META, NETWORKS, describe_controlnet, describe_unet, describe_vae
from swiftdiffusion.networks.unet import UNetDecoder, UNetEncoder


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "published"),
    [("unet", 2_567_463_684), ("text_encoder", 123_060_480), ("text_encoder_2", 694_659_840), ("vae", 83_653_863)],
)
def test_networks_have_the_published_numbers_of_parameters(name, published):
    network = NETWORKS[name]()
    assert count(network) == published
    assert {parameter.device for parameter in network.parameters()} == {META}


def test_parts_have_the_published_numbers_of_parameters():
    assert count(describe_vae().decoder) == 49_490_179
    assert count(describe_controlnet()) == 1_251_014_160


def test_controlnet_has_a_residual_for_each_skip_of_the_unet():
    """On the meta device shapes are computed and nothing else."""
    unet, controlnet = describe_unet(), describe_controlnet()
    with META:
        sample, timestep = torch.empty(2, 4, 96, 168), torch.tensor(1.0)
        prompt_embeds, pooled, time_ids = torch.empty(2, 77, 2048), torch.empty(2, 1280), torch.empty(2, 6)
        image = torch.empty(2, 3, 768, 1344)
        mid, embedding, *skips = UNetEncoder(unet)(sample, timestep, prompt_embeds, pooled, time_ids)
        conditions = {"text_embeds": pooled, "time_ids": time_ids}
        down, middle = controlnet(
            sample, timestep, prompt_embeds, image, added_cond_kwargs=conditions, return_dict=False
        )
        assert [residual.shape for residual in (*down, middle)] == [tensor.shape for tensor in (*skips, mid)]
        noise = UNetDecoder(unet)(mid, embedding, skips, [*down, middle], prompt_embeds)
    assert noise.shape == sample.shape
