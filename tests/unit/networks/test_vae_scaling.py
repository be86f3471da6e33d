"""A decoder that overflows fp16, scaled down until it does not."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL

from swiftdiffusion.networks.vae_decoder import VaeDecoder, load_vae_decoder
from swiftdiffusion.networks.vae_scaling import scale_activations

LATENTS = torch.randn((1, 4, 6, 7), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def vae():
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        up_block_types=("UpDecoderBlock2D",) * 2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=1.0,
    )
    for name, weight in vae.named_parameters():
        if "conv2" in name or "to_out" in name:
            weight.data *= 200_000  # as SDXL's, whose residual stream grows out of fp16's range
    return vae.eval()


@torch.inference_mode()
def test_the_picture_stays_what_it_was(vae):
    plain, scaled = VaeDecoder(vae), VaeDecoder(copy.deepcopy(vae))
    scale_activations(scaled.decoder)
    assert torch.allclose(scaled(LATENTS), plain(LATENTS), atol=1e-5)


@torch.inference_mode()
def test_what_overflowed_fp16_fits(vae, tmp_path):
    vae.save_pretrained(tmp_path / "vae")
    wanted = VaeDecoder(vae)(LATENTS)
    assert not VaeDecoder(copy.deepcopy(vae)).half()(LATENTS.half()).isfinite().all()
    served = load_vae_decoder(tmp_path, torch.float16)(LATENTS.half())
    assert (served - wanted).norm() / wanted.norm() < 5e-3
