"""The UNet's two halves against diffusers' whole."""

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from swiftdiffusion.engines import make_engine, refit
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.controlnet import ControlNet, load_controlnet
from swiftdiffusion.networks.unet import UNetDecoder, UNetEncoder, load_unet
from swiftdiffusion.placement import Placement

CPU = Placement(torch.device("cpu"), torch.float32)


def make_unet(**changes):
    torch.manual_seed(0)
    settings = {
        "sample_size": 8,
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (2, 2, 4),
        "cross_attention_dim": 12,
        "norm_num_groups": 4,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 10,
    }
    return UNet2DConditionModel(**(settings | changes)).eval()


@pytest.fixture(scope="module")
def unet():
    return make_unet()


def make_inputs(height, width, batch=2):
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    sizes = torch.tensor([height * 4.0, width * 4.0, 0, 0, height * 4.0, width * 4.0]).expand(batch, -1)
    return draw(batch, 4, height, width), torch.tensor(601), draw(batch, 5, 12), draw(batch, 10), sizes


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 16), (10, 6), (9, 7)])
@torch.inference_mode()
def test_the_halves_make_the_whole(unet, height, width):
    sample, timestep, prompt, pooled, sizes = make_inputs(height, width)
    model = ControlNetModel.from_unet(unet, conditioning_channels=3, load_weights_from_unet=True)
    for zero_convolution in (*model.controlnet_down_blocks, model.controlnet_mid_block):
        torch.nn.init.normal_(zero_convolution.weight, std=0.3)
    image = torch.rand(1, 3, height * 8, width * 8)
    conditions = {"text_embeds": pooled, "time_ids": sizes}
    down, middle = model(
        sample, timestep, prompt, image.repeat(2, 1, 1, 1), added_cond_kwargs=conditions, return_dict=False
    )
    whole = unet(
        sample,
        timestep,
        prompt,
        added_cond_kwargs=conditions,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample

    encoder, decoder = (make_engine("torch", half, CPU) for half in (UNetEncoder(unet), UNetDecoder(unet)))
    mid, embedding, *skips = encoder(sample, timestep, prompt, pooled, sizes)
    flat = make_engine("torch", ControlNet(model), CPU)(sample, timestep, prompt, pooled, sizes, image)
    shapes = [tensor.shape for tensor in (*skips, mid)]
    parts = flat.split([shape.numel() for shape in shapes])
    residuals = [
        part.view(batch, high, wide, channels).permute(0, 3, 1, 2)
        for part, (batch, channels, high, wide) in zip(parts, shapes, strict=True)
    ]
    halves = decoder(mid, embedding, skips, residuals, prompt)

    # not bit for bit: a matrix product's rounding may depend on where its operands lie in memory
    assert torch.allclose(halves, whole, atol=1e-5)
    alone = decoder(mid, embedding, skips, None, prompt)
    plain = unet(sample, timestep, prompt, added_cond_kwargs=conditions).sample
    assert torch.allclose(alone, plain, atol=1e-5)
    assert not torch.allclose(alone, whole, atol=1e-3)


def test_weights_keep_their_names_in_the_checkpoint(unet):
    halves = {**UNetEncoder(unet).weights(), **UNetDecoder(unet).weights()}
    assert halves.keys() == dict(unet.named_parameters()).keys()


@torch.inference_mode()
def test_refit_changes_what_runs_next(unet):
    decoder = make_engine("torch", UNetDecoder(make_unet()), CPU)
    name = "conv_out.bias"
    refit(decoder, {name: torch.full((4,), 3.0)})
    assert torch.equal(decoder.parameters()[name], torch.full((4,), 3.0))


def test_another_kind_of_unet_is_refused(tmp_path):
    make_unet(addition_embed_type=None, projection_class_embeddings_input_dim=None).save_pretrained(tmp_path / "unet")
    with pytest.raises(InvalidArgument, match="addition_embed_type is None; SDXL's 'text_time'"):
        load_unet(tmp_path, torch.float32)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("only_cross_attention", True),
        ("only_cross_attention", (False, True, False)),
        ("mid_block_only_cross_attention", True),
        ("dual_cross_attention", True),
        ("center_input_sample", True),
        ("num_class_embeds", 3),
    ],
)
def test_what_fused_layers_and_halves_would_leave_out_is_refused(part, value, tmp_path):
    make_unet(**{part: value}).save_pretrained(tmp_path / "unet")
    with pytest.raises(InvalidArgument, match=rf"the UNet's {part} is .*; SDXL's has none"):
        load_unet(tmp_path, torch.float32)


def test_attention_that_is_told_for_each_block_may_be_sdxls(tmp_path):
    make_unet(only_cross_attention=(False, False, False)).save_pretrained(tmp_path / "unet")
    assert load_unet(tmp_path, torch.float32)


def test_a_controlnet_with_other_attention_is_refused(tmp_path):
    ControlNetModel.from_unet(make_unet(only_cross_attention=True)).save_pretrained(tmp_path)
    with pytest.raises(InvalidArgument, match="the ControlNet's only_cross_attention is True; SDXL's has none"):
        load_controlnet(tmp_path, torch.float32)


def test_an_unknown_engine_is_refused(unet):
    with pytest.raises(InvalidArgument, match="'engine' is 'onnx'; allowed: auto, torch, cuda_graph"):
        make_engine("onnx", UNetEncoder(unet), CPU)
