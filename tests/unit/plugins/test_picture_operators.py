"""Biases, residuals and doubling: the operators and their kernels."""

import pytest
import torch
from torch.nn import functional

from swiftdiffusion_operators import add_bias, add_taps, upsample_convolve, upsample_nearest

pytest.importorskip("triton")
from swiftdiffusion_operators.kernels import add_bias as bias_kernel
from swiftdiffusion_operators.kernels import upsample_convolve as convolve_kernel
from swiftdiffusion_operators.kernels import upsample_nearest as upsample_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("channels", [3, 40, 1100])
def test_biases_and_residuals(channels, dtype):
    generator = torch.Generator().manual_seed(channels)
    x, residual = torch.randn((2, 2, 5, 3, channels), generator=generator).to(DEVICE, dtype)
    bias = torch.randn(channels, generator=generator).to(DEVICE, dtype)
    for run in (bias_kernel.run, add_bias):
        wanted = x.double() + bias.double()
        assert torch.allclose(run(x, bias, None).double(), wanted, rtol=1e-3, atol=1e-3)
        assert torch.allclose(run(x, bias, residual).double(), wanted + residual.double(), rtol=1e-3, atol=2e-3)
    torch.library.opcheck(torch.ops.swiftdiffusion.add_bias.default, (x, bias, residual))


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
    for run in (convolve_kernel.run, upsample_convolve):
        found = run(x, taps, bias)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(found.double(), wanted, rtol=1e-3, atol=5e-3 if dtype == torch.float16 else 1e-5)
    torch.library.opcheck(torch.ops.swiftdiffusion.upsample_convolve.default, (x, taps, bias))
