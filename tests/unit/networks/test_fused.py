"""Networks with fused layers against the same as diffusers wrote them, on the operators' CPU side."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from tests.unit.networks.test_unet import make_inputs, make_unet

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.controlnet import ControlNet
from swiftdiffusion.networks.fused import fuse
from swiftdiffusion.networks.fused.resnet import ResnetBlock
from swiftdiffusion.networks.fused.transformer import Transformer
from swiftdiffusion.networks.fused.vae_attention import VaeAttention
from swiftdiffusion.networks.unet import UNetDecoder, UNetEncoder
from swiftdiffusion.networks.vae_decoder import VaeDecoder


def fused(network):
    network = copy.deepcopy(network).requires_grad_(False).to(memory_format=torch.channels_last)
    fuse(network)
    return network


def count(network, kind):
    return sum(isinstance(module, kind) for module in network.modules())


@pytest.mark.parametrize("linear", [True, False])
@torch.inference_mode()
def test_both_halves_predict_the_same(linear):
    unet = make_unet(use_linear_projection=linear)
    encoder, decoder = UNetEncoder(unet), UNetDecoder(unet)
    inputs = make_inputs(12, 10)
    mid, embedding, *skips = encoder(*inputs)
    noise = decoder(mid, embedding, skips, [mid.new_ones(skip.shape) for skip in (*skips, mid)], inputs[2])

    encoder, decoder = fused(encoder), fused(decoder)
    assert count(encoder, ResnetBlock) == 6 + 2 and count(encoder, Transformer) == 4 + 1
    mid, embedding, *skips = encoder(*inputs)
    again = decoder(mid, embedding, skips, [mid.new_ones(skip.shape) for skip in (*skips, mid)], inputs[2])
    assert torch.allclose(again, noise, atol=1e-5)


@pytest.mark.parametrize("kind", [{"resnet_time_scale_shift": "scale_shift"}, {"act_fn": "gelu"}])
def test_residual_blocks_of_another_kind_are_refused(kind):
    for half in (UNetEncoder, UNetDecoder):
        with pytest.raises(InvalidArgument, match=r"residual blocks of another kind .*; allowed for it: torch"):
            fused(half(make_unet(**kind)))


@torch.inference_mode()
def test_a_controlnet_gives_the_same_residuals():
    torch.manual_seed(2)
    model = ControlNetModel.from_unet(make_unet(), conditioning_channels=3)
    for output in (*model.controlnet_down_blocks, model.controlnet_mid_block):
        torch.nn.init.normal_(output.weight, std=0.3)
    network, inputs = ControlNet(model), (*make_inputs(8, 8), torch.rand(1, 3, 64, 64))
    assert torch.allclose(fused(network)(*inputs), network(*inputs), atol=1e-5)


@torch.inference_mode()
def test_samples_without_words_are_those_with_prompts_of_zeros():
    """In front, where their prompts may be left out."""
    unet = make_unet()
    sample, timestep, prompts, pooled, sizes = make_inputs(8, 8, batch=3)
    prompts[:2] = 0
    model = ControlNetModel.from_unet(unet, conditioning_channels=3)
    for output in (*model.controlnet_down_blocks, model.controlnet_mid_block):
        torch.nn.init.normal_(output.weight, std=0.3)
    encoder, decoder, controlnet, image = (
        UNetEncoder(unet),
        UNetDecoder(unet),
        ControlNet(model),
        torch.rand(1, 3, 64, 64),
    )
    wanted = controlnet(sample, timestep, prompts, pooled, sizes, image)
    mid, embedding, *skips = encoder(sample, timestep, prompts, pooled, sizes)
    noise = decoder(mid, embedding, skips, None, prompts)
    for layers in (lambda network: network, fused):
        given = (sample, timestep, prompts[2:], pooled, sizes)
        assert torch.allclose(layers(controlnet)(*given, image), wanted, atol=1e-5)
        mid, embedding, *skips = layers(encoder)(*given)
        assert torch.allclose(layers(decoder)(mid, embedding, skips, None, prompts[2:]), noise, atol=1e-5)


@torch.inference_mode()
def test_a_decoder_gives_the_same_picture():
    torch.manual_seed(3)
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        up_block_types=("UpDecoderBlock2D",) * 2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    network, latents = VaeDecoder(vae.eval()), torch.randn(1, 4, 6, 7)
    assert count(fused(network), VaeAttention) == 1
    assert count(fused(network), ResnetBlock) == 2 + 4
    assert torch.allclose(fused(network)(latents), network(latents), atol=1e-5)


@pytest.mark.parametrize("half", [UNetEncoder, UNetDecoder])
@torch.inference_mode()
def test_weights_keep_their_names_and_stay_live(half):
    """A weight written under its name must act, also where it is part of a merged one or summed with others."""
    unet = make_unet()
    network, inputs = half(unet), make_inputs(8, 8)
    if half is UNetDecoder:
        mid, embedding, *skips = UNetEncoder(unet)(*inputs)
        inputs = (mid, embedding, skips, None, inputs[2])
    other = fused(network)
    plain, live = network.weights(), other.weights()
    assert live.keys() == plain.keys()
    torch.manual_seed(4)
    for name in plain:
        plain[name].data += torch.randn_like(plain[name]) * 0.05
        live[name].copy_(plain[name])
    for old, new in zip(network(*inputs), other(*inputs), strict=True):
        assert torch.allclose(old, new, atol=1e-5)
