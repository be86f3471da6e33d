"""The cuda_graph engine against torch's, on the small checkpoint in fp16."""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel

from swiftdiffusion.denoising.advance import Advance
from swiftdiffusion.denoising.branch import Branch, UNet
from swiftdiffusion.denoising.conditioning import blank
from swiftdiffusion.denoising.loop import denoise
from swiftdiffusion.denoising.plan import make_plan
from swiftdiffusion.denoising.schedulers import SCHEDULERS, load_scheduler_config
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.engines import make_engine, refit
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.networks.unet import UNetDecoder, UNetEncoder, load_unet
from swiftdiffusion.networks.vae_decoder import load_vae_decoder
from swiftdiffusion.placement import Placement

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

from shapes.checkpoint import controlnet_folder, pipeline_folder  # noqa: E402

GPU = Placement(torch.device("cuda:0"), torch.float16)
TOKENS = 48


def load_halves(kind, **options):
    return [make_engine(kind, half, GPU, **options) for half in load_unet(pipeline_folder(), GPU.dtype)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(GPU.device, GPU.dtype)


def make_inputs(side=32, seed=0, batch=2):
    encoder, _ = load_unet(pipeline_folder(), torch.float32)
    sizes = torch.tensor([[side * 4.0, side * 4.0, 0, 0, side * 4.0, side * 4.0]] * batch).to(GPU.device, GPU.dtype)
    prompt, pooled = draw(batch, TOKENS, encoder.prompt_width, seed=seed), draw(batch, encoder.pooled_width, seed=seed)
    return draw(batch, 4, side, side, seed=seed), torch.tensor(601.0, device=GPU.device), prompt, pooled, sizes


def run(halves, inputs, residual=None):
    encoder, decoder = halves
    mid, embedding, *skips = encoder(*inputs)
    residuals = None if residual is None else [torch.full_like(skip, residual) for skip in (*skips, mid)]
    return decoder(mid, embedding, skips, residuals, inputs[2]).clone()


def differ(found, wanted):
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("side", [24, 32, 26])
def test_both_halves_predict_what_torch_does(side, batch):
    fast, plain = load_halves("cuda_graph", captures=4), load_halves("torch")
    for seed in range(3):  # new prompts too
        inputs = make_inputs(side, seed, batch)
        assert differ(run(fast, inputs), run(plain, inputs)) < 5e-3
        assert differ(run(fast, inputs, 0.1), run(plain, inputs, 0.1)) < 5e-3


def test_a_negative_half_without_words_is_one_with_zeros():
    fast = load_halves("cuda_graph", captures=2)
    sample, timestep, prompt, pooled, sizes = make_inputs()
    prompt[0] = 0
    wanted = run(fast, (sample, timestep, prompt, pooled, sizes))
    assert differ(run(fast, (sample, timestep, prompt[1:], pooled, sizes)), wanted) < 2e-3


def make_wide_unet():
    """One of few layers with heads as wide as SDXL's, for which there are kernels that `shapes` has no use for."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(1, 2),  # how many heads: diffusers' name for it
        cross_attention_dim=64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=6 * 32 + 64,
    ).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (36, 52)])
def test_heads_as_wide_as_sdxls(height, width):
    unet = make_wide_unet().to(GPU.device, GPU.dtype)
    halves = UNetEncoder(unet), UNetDecoder(unet)
    fast, plain = ([make_engine(kind, copy.deepcopy(half), GPU) for half in halves] for kind in ("cuda_graph", "torch"))
    sizes = torch.tensor([[height * 8.0, width * 8.0, 0, 0, height * 8.0, width * 8.0]] * 2).to(GPU.device, GPU.dtype)
    for seed in range(2):
        sample, prompt, pooled = (
            draw(2, 4, height, width, seed=seed),
            draw(2, 77, 64, seed=seed),
            draw(2, 64, seed=seed),
        )
        inputs = sample, torch.tensor(601.0, device=GPU.device), prompt, pooled, sizes
        assert differ(run(fast, inputs), run(plain, inputs)) < 5e-3


def test_a_controlnet_and_a_vae_too():
    inputs = (*make_inputs(), torch.rand(1, 3, 128, 128, device=GPU.device, dtype=GPU.dtype))
    fast, plain = (
        make_engine(kind, load_controlnet(controlnet_folder("edges"), GPU.dtype), GPU)
        for kind in ("cuda_graph", "torch")
    )
    assert differ(fast(*inputs), plain(*inputs)) < 5e-3
    fast, plain = (
        make_engine(kind, load_vae_decoder(pipeline_folder(), GPU.dtype), GPU) for kind in ("cuda_graph", "torch")
    )
    for seed in range(2):
        latents = draw(1, 4, 32, 32, seed=seed)
        assert differ(fast(latents), plain(latents)) < 5e-3


def test_a_refit_reaches_what_is_captured_and_goes_back():
    """Weights that stand alone, that are parts of merged ones, and that keys, values and biases were computed from."""
    fast, plain = load_halves("cuda_graph"), load_halves("torch")
    inputs = make_inputs()
    base = run(fast, inputs)
    kinds = ("to_k.weight", "to_q.weight", "conv1.weight", "proj_in.weight", "proj_out.weight", "to_out.0.bias")
    pristine = {}
    for engine, other in zip(fast, plain, strict=True):
        names = [name for name in engine.parameters() if name.endswith(kinds)]
        assert len(names) > 12
        pristine[engine] = {name: engine.parameters()[name].clone() for name in names}
        changed = {name: weight * 1.1 for name, weight in pristine[engine].items()}
        refit(engine, changed)
        refit(other, changed)
    patched = run(fast, inputs)
    assert differ(patched, run(plain, inputs)) < 5e-3
    assert differ(patched, base) > 2e-2
    for engine, weights in pristine.items():
        for name, weight in weights.items():  # as the grouped patch does
            engine.parameters()[name].copy_(weight)
        engine.weights_changed(engine.parameters())
    assert torch.equal(run(fast, inputs), base)


def test_shapes_beyond_the_bound_are_captured_again():
    fast = load_halves("cuda_graph", captures=1)
    first, second = make_inputs(32), make_inputs(24)
    wanted = run(fast, first)
    run(fast, second)
    assert torch.equal(run(fast, first), wanted)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_loop_does_not_wait_for_the_gpu(scheduler):
    encoder, decoder = load_halves("cuda_graph")
    advance = make_engine("auto", Advance(), GPU)
    plan = make_plan(scheduler, load_scheduler_config(pipeline_folder()), 6).on(GPU.device)
    network, _ = load_unet(pipeline_folder(), torch.float32)
    conditioning = blank(network, TOKENS, 128, 128, GPU)

    def watch(step):
        torch.cuda.set_sync_debug_mode("error" if step >= 2 and not plan.draws[step] else "default")

    try:
        latents = denoise(
            [Branch(UNet(encoder, decoder), conditioning, [])],
            advance,
            plan,
            draw(1, 4, 32, 32).float() * plan.noise_scale,
            3.0,
            torch.Generator().manual_seed(1),
            before_step=watch,
            after_step=lambda step: None,
            stopwatch=Stopwatch(),
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert latents.isfinite().all()
