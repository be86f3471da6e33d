"""Biases, residuals, convolutions and doubling: the operators and their kernels."""

import pytest
import torch
from torch.nn import functional

from swiftdiffusion_operators import add_taps, convolve, upsample_convolve, upsample_nearest

pytest.importorskip("triton")
from swiftdiffusion_operators.kernels import add_bias as bias_kernel
from swiftdiffusion_operators.kernels import convolution_tiles as tiles
from swiftdiffusion_operators.kernels import upsample_convolve as doubling_kernel
from swiftdiffusion_operators.kernels import upsample_nearest as upsample_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """torch convolves fp32 in TF32 on a GPU, where nobody says otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("channels", [3, 40, 1100])
def test_biases_and_residuals(channels, dtype):
    generator = torch.Generator().manual_seed(channels)
    x, residual = torch.randn((2, 2, 5, 3, channels), generator=generator).to(DEVICE, dtype)
    bias = torch.randn(channels, generator=generator).to(DEVICE, dtype)
    wanted = x.double() + bias.double()
    assert torch.allclose(bias_kernel.run(x, bias, None).double(), wanted, rtol=1e-3, atol=1e-3)
    wanted += residual.double()
    assert torch.allclose(bias_kernel.run(x, bias, residual).double(), wanted, rtol=1e-3, atol=2e-3)


# a batch's shape, channels out, side of the kernel, stride, padding;
# of the first eight Hopper's kernel takes those with something to add
CONVOLUTIONS = [
    ((1, 64, 3, 5), 64, 3, 1, 1),
    ((2, 72, 13, 7), 336, 3, 1, 1),
    ((2, 320, 16, 24), 320, 3, 1, 1),
    ((1, 128, 9, 70), 640, 3, 1, 1),
    ((3, 96, 2, 66), 256, 3, 1, 1),
    ((8, 64, 40, 1), 160, 3, 1, 1),
    ((2, 320, 16, 24), 640, 1, 1, 0),
    ((1, 72, 13, 7), 336, 1, 1, 0),
    ((2, 64, 6, 5), 64, 3, 2, 1),
    ((1, 4, 7, 5), 64, 3, 1, 1),
    ((2, 65, 4, 4), 64, 3, 1, 1),
    ((1, 64, 7, 5), 3, 3, 1, 1),
    ((1, 64, 8, 6), 64, 3, 2, 0),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("shape", "out", "side", "stride", "padding"), CONVOLUTIONS)
def test_convolving(shape, out, side, stride, padding, dtype):
    generator = torch.Generator().manual_seed(out)
    x = torch.randn(shape, generator=generator).to(DEVICE, dtype).to(memory_format=torch.channels_last)
    weight = torch.randn((out, shape[1], side, side), generator=generator) / (side**2 * shape[1]) ** 0.5
    weight = weight.to(DEVICE, dtype).to(memory_format=torch.channels_last)
    bias = torch.randn(out, generator=generator).to(DEVICE, dtype)
    bare = functional.conv2d(x.double(), weight.double(), None, stride, padding)
    residual = torch.randn(bare.shape, generator=generator).to(DEVICE, dtype).to(memory_format=torch.channels_last)
    biased = bare + bias.double()[:, None, None]
    rounding = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2, torch.float32: 1e-5}[dtype]
    for given, wanted in (((), bare), ((bias,), biased), ((bias, residual), biased + residual.double())):
        arguments = (x, weight, *given, *[None] * (2 - len(given)), stride, padding)
        found = convolve(*arguments)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(found.double(), wanted, rtol=rounding, atol=2 * rounding)
    arguments = (x, weight, None, residual, stride, padding)
    assert torch.allclose(convolve(*arguments).double(), bare + residual.double(), rtol=rounding, atol=2 * rounding)
    torch.library.opcheck(torch.ops.swiftdiffusion.convolve.default, arguments)


@pytest.mark.parametrize("size", [(1, 1), (13, 7), (32, 32), (48, 84), (128, 128), (1, 200), (200, 1)])
def test_units_cover_a_picture_with_the_least_beside_it(size):
    """Those of the kernel, so many that no other shape of as many pixels takes fewer."""
    needed = {unit: -(-size[0] // unit[0]) * -(-size[1] // unit[1]) for unit in tiles.UNITS}
    assert all(high * wide == tiles.UNIT for high, wide in needed)
    assert needed[tiles.choose_unit(*size)] == min(needed.values())


@pytest.mark.parametrize(
    ("units", "out", "width"), [(512, 320, 320), (128, 640, 320), (32, 1280, 160), (4096, 256, 256), (16384, 128, 128)]
)
def test_tiles_are_as_wide_as_keeps_all_of_a_gpu_busy(units, out, width):
    """SDXL's pictures at 1024², of two samples, and then the VAE's, on a GPU of 132 multiprocessors."""
    assert tiles.choose_width(units, out, 132).channels == width


@pytest.mark.parametrize("shape", [(1, 4, 3, 5), (3, 300, 2, 2), (2, 7, 1, 9)])
def test_doubling(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(DEVICE).half()
    x = x.to(memory_format=torch.channels_last)
    for run in (upsample_kernel.run, upsample_nearest):
        assert torch.equal(run(x), functional.interpolate(x, scale_factor=2.0))
        assert run(x).is_contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(torch.ops.swiftdiffusion.upsample_nearest.default, (x,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("shape", "out"), [((1, 4, 3, 5), 3), ((3, 300, 2, 2), 40), ((2, 8, 1, 9), 264)])
def test_doubling_and_convolving(shape, out, dtype):
    generator = torch.Generator().manual_seed(out)
    x = torch.randn(shape, generator=generator).to(DEVICE, dtype).to(memory_format=torch.channels_last)
    weight = torch.randn((out, shape[1], 3, 3), generator=generator).to(DEVICE, dtype) / (9 * shape[1]) ** 0.5
    bias = torch.randn(out, generator=generator).to(DEVICE, dtype)
    doubled = functional.interpolate(x.double(), scale_factor=2.0)
    wanted = functional.conv2d(doubled, weight.double(), bias.double(), padding=1)
    taps = add_taps(weight)
    for run in (doubling_kernel.run, upsample_convolve):
        found = run(x, taps, bias)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(found.double(), wanted, rtol=1e-3, atol=5e-3 if dtype == torch.float16 else 1e-5)
    torch.library.opcheck(torch.ops.swiftdiffusion.upsample_convolve.default, (x, taps, bias))
