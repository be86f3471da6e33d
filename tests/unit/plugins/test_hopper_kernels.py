"""Hopper's kernels, which are Gluon's, against float64, interpreted: all of their tiles, stages, barriers and turns."""

import pytest
import torch
from tests.unit.plugins.test_transformer_operators import ERRORS, differ, gate_exactly
from torch.nn import functional

pytest.importorskip("triton")
from swiftdiffusion_operators.kernels import convolve, geglu_linear_hopper, self_attention

dtypes = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


def draw(*shape, dtype, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


# a batch's shape, channels out, side of the kernel
CONVOLUTIONS = [
    ((2, 72, 13, 7), 336, 3),
    ((3, 64, 2, 66), 88, 3),
    ((3, 136, 13, 7), 336, 1),
]


@dtypes
@pytest.mark.parametrize("tile", convolve.WIDTHS, ids=lambda tile: f"{tile.wide}+{tile.narrow}")
@pytest.mark.parametrize(("shape", "out", "side"), CONVOLUTIONS)
def test_convolving(interpret, monkeypatch, shape, out, side, tile, dtype):
    monkeypatch.setattr(convolve, "choose_width", lambda *arguments: tile)
    x = draw(*shape, dtype=dtype).to(memory_format=torch.channels_last)
    weight = draw(out, shape[1], side, side, dtype=torch.float32) / (side**2 * shape[1]) ** 0.5
    weight = weight.to(dtype, memory_format=torch.channels_last)
    bias = draw(out, dtype=dtype)
    residual = draw(shape[0], out, *shape[2:], dtype=dtype).to(memory_format=torch.channels_last)
    bare = functional.conv2d(x.double(), weight.double(), padding=side // 2)
    rounding = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2}[dtype]
    for seed, (biased, adds) in enumerate([(False, False), (True, False), (False, True), (True, True)]):
        interpret(convolve, seed)
        found = convolve.run(x, weight, bias if biased else None, residual if adds else None)
        assert found.is_contiguous(memory_format=torch.channels_last)
        wanted = bare + biased * bias.double()[:, None, None] + adds * residual.double()
        assert torch.allclose(found.double(), wanted, rtol=rounding, atol=2 * rounding)


@pytest.mark.parametrize("shape", [(2, 64, 1, 1), (1, 64, 3, 5)])
def test_convolving_what_does_not_lie_channels_last(interpret, shape):
    """One pixel, too, whose height and width have strides of 1."""
    interpret(convolve)
    x, residual, weight = (draw(*shape, dtype=torch.float16), draw(*shape, dtype=torch.float16, seed=1), torch.eye(64))
    weight = weight.half()[:, :, None, None].contiguous()
    assert torch.equal(convolve.run(x, weight, None, residual), x + residual)


@dtypes
@pytest.mark.parametrize(("shape", "width"), [((2, 75, 72), 104), ((300, 128), 328), ((1, 8), 8), ((3, 700, 264), 136)])
def test_geglu_in_the_product(interpret, shape, width, dtype):
    x, weight = draw(*shape, dtype=dtype), draw(2 * width, shape[-1], dtype=dtype)
    bias = draw(2 * width, dtype=dtype)
    wanted = gate_exactly(functional.linear(x.double(), weight.double(), bias.double()))
    for seed in range(3):
        interpret(geglu_linear_hopper, seed)
        assert differ(geglu_linear_hopper.run(x, weight, bias), wanted) < ERRORS[dtype]


@dtypes
@pytest.mark.parametrize(
    ("samples", "tokens", "heads"), [(2, 77, 5), (2, 200, 3), (1, 1, 1), (1, 1008, 2), (3, 320, 4), (1, 128, 7)]
)
def test_attention_of_a_picture_to_itself(interpret, samples, tokens, heads, dtype):
    qkv = draw(samples, tokens, 3 * heads * self_attention.WIDTH, dtype=dtype)
    parts = qkv.double().unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    wanted = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    for seed in range(3):
        interpret(self_attention, seed)
        assert differ(self_attention.run(qkv, heads), wanted) < 2 * ERRORS[dtype]
