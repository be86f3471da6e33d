"""GEGLU, LayerNorms and attention to the prompt against float64: the operators and their kernels."""

import pytest
import torch
from torch.nn import functional

from swiftdiffusion_operators import cross_attention, geglu, geglu_linear, layer_norm, self_attention

pytest.importorskip("triton")
from swiftdiffusion_operators.kernels import cross_attention as attention_kernel
from swiftdiffusion_operators.kernels import geglu as geglu_kernel
from swiftdiffusion_operators.kernels import geglu_linear as geglu_linear_kernel
from swiftdiffusion_operators.kernels import layer_norm as norm_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ERRORS = {torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float32: 2e-6}
dtypes = pytest.mark.parametrize("dtype", ERRORS, ids=str)


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(DEVICE, dtype)


def differ(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


def gate_exactly(x):
    values, gates = x.double().chunk(2, dim=-1)
    return values * functional.gelu(gates)


@dtypes
@pytest.mark.parametrize("shape", [(3, 5, 2 * 37), (1, 2 * 1300), (8, 2, 2 * 64)])
def test_geglu(shape, dtype):
    x = draw(*shape, dtype=dtype) * 3
    assert differ(geglu_kernel.run(x), gate_exactly(x)) < ERRORS[dtype]
    assert differ(geglu(x), gate_exactly(x)) < ERRORS[dtype]
    torch.library.opcheck(torch.ops.swiftdiffusion.geglu.default, (x,))


def test_geglu_keeps_its_digits_far_out():
    """Where the gate nearly closes, the result is small but not noise."""
    gates = torch.linspace(-5, 5, 401, device=DEVICE)
    x = torch.cat([torch.ones_like(gates), gates])[None]
    wanted = gate_exactly(x)
    assert ((geglu_kernel.run(x) - wanted).abs() / wanted.abs().clamp(min=1e-12)).max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("shape", "width"), [((2, 75, 72), 104), ((300, 128), 64), ((1, 8), 8), ((3, 2200, 16), 8)])
def test_geglu_in_the_product(shape, width, dtype):
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bf16 matrices as integers")
    x, weight = draw(*shape, dtype=dtype), draw(2 * width, shape[-1], dtype=dtype)
    bias = draw(2 * width, dtype=dtype)
    wanted = gate_exactly(functional.linear(x.double(), weight.double(), bias.double()))
    assert differ(geglu_linear_kernel.run(x, weight, bias), wanted) < ERRORS[dtype]
    assert differ(geglu_linear(x, weight, bias), wanted) < ERRORS[dtype]
    torch.library.opcheck(torch.ops.swiftdiffusion.geglu_linear.default, (x, weight, bias))


@dtypes
@pytest.mark.parametrize("finely", [False, True])
@pytest.mark.parametrize("shape", [(7, 320), (2, 3, 37), (1, 1280)])
def test_layer_norm(shape, finely, dtype):
    """Of rows that are shifted first, whose sum is not rounded."""
    x, weight, bias = draw(*shape, dtype=dtype) + 5, draw(shape[-1], dtype=dtype), draw(shape[-1], dtype=dtype, seed=1)
    shift = draw(shape[-1], dtype=torch.float32 if finely else dtype, seed=2) * 20
    wanted = functional.layer_norm(x.double() + shift.double(), shape[-1:], weight.double(), bias.double(), 1e-5)
    assert differ(norm_kernel.run(x, shift, weight, bias, 1e-5), wanted) < ERRORS[dtype]
    assert differ(layer_norm(x, shift, weight, bias, 1e-5), wanted) < ERRORS[dtype]
    torch.library.opcheck(torch.ops.swiftdiffusion.layer_norm.default, (x, shift, weight, bias, 1e-5))


@dtypes
@pytest.mark.parametrize(
    ("queries", "keys", "heads", "width"),
    [(150, 77, 4, 64), (9, 48, 3, 16), (64, 130, 1, 32), (1, 17, 2, 32), (65, 64, 1, 128), (63, 231, 2, 64)],
)
def test_attention_to_the_prompt(queries, keys, heads, width, dtype):
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bf16 matrices as integers")
    q = draw(2, queries, heads * width, dtype=dtype)
    k, v = draw(2, keys, 2 * heads * width, dtype=dtype).chunk(2, dim=-1)  # rows of a merged product
    parts = [tensor.double().unflatten(-1, (heads, width)).transpose(1, 2) for tensor in (q, k, v)]
    wanted = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    assert attention_kernel.fits(keys, width)
    assert differ(attention_kernel.run(q, k, v, heads), wanted) < ERRORS[dtype]
    assert differ(cross_attention(q, k, v, heads), wanted) < ERRORS[dtype]
    torch.library.opcheck(torch.ops.swiftdiffusion.cross_attention.default, (q, k, v, heads))


@dtypes
@pytest.mark.parametrize(
    ("tokens", "heads", "width"), [(77, 20, 64), (1024, 20, 64), (1008, 3, 64), (4032, 10, 64), (1, 1, 64), (50, 4, 24)]
)
def test_attention_of_a_picture_to_itself(tokens, heads, width, dtype):
    """On a Hopper GPU in half precision by the kernel of its own, which takes heads 64 wide."""
    if tokens > 1024 and DEVICE == "cpu":
        pytest.skip("large for a CPU")
    qkv = draw(2, tokens, 3 * heads * width, dtype=dtype)
    parts = qkv.double().unflatten(-1, (3, heads, width)).permute(2, 0, 3, 1, 4)
    wanted = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    assert differ(self_attention(qkv, heads), wanted) < 2 * ERRORS[dtype]
    torch.library.opcheck(torch.ops.swiftdiffusion.self_attention.default, (qkv, heads))
