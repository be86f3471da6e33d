"""GroupNorm + SiLU against float64: the operator and, interpreted where there is no GPU, its kernels."""

import pytest
import torch
from torch.nn import functional

from swiftdiffusion_operators import group_norm_silu

pytest.importorskip("triton")
from swiftdiffusion_operators.kernels import group_norm_silu as kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# ulps of one rounding of the result; Triton's interpreter rounds bf16 towards zero
ERRORS = {torch.float16: 5e-4, torch.bfloat16: 8e-3, torch.float32: 2e-6}
SIZES = [
    # batch, channels, height, width, groups
    (1, 6, 5, 7, 2),  # 3 channels a group
    (2, 96, 4, 5, 32),
    (8, 15, 3, 3, 5),
    (3, 30, 9, 11, 2),
    (2, 64, 16, 16, 32),
    (1, 320, 12, 8, 32),
    (1, 2560, 2, 3, 1),  # 2,560 channels in one group
]


def make_inputs(size, dtype, channels_last):
    batch, channels, height, width, groups = size
    generator = torch.Generator().manual_seed(channels)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    x = draw(batch, channels, height, width) * 2 + 30 * draw(channels, 1, 1)  # means far from zero
    x = x.to(DEVICE, dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    weight, bias, shift = (
        tensor.to(DEVICE, dtype) for tensor in (draw(channels), draw(channels), draw(batch, channels))
    )
    return x, weight, bias, groups, shift


def compute_exactly(x, weight, bias, groups, eps, silu, shift):
    x = x.double() if shift is None else x.double() + shift.double()[:, :, None, None]
    normed = functional.group_norm(x, groups, weight.double(), bias.double(), eps)
    return functional.silu(normed) if silu else normed


def differ(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("channels_last", [True, False], ids=["nhwc", "nchw"])
@pytest.mark.parametrize("dtype", ERRORS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_kernels_are_exact(size, dtype, channels_last, monkeypatch):
    if not channels_last and size[1] > 60 and DEVICE == "cpu":
        pytest.skip("a program a channel: minutes in the interpreter")
    if DEVICE == "cpu":
        monkeypatch.setattr(kernels, "PROGRAMS", 8)  # the interpreter runs them one after the other
    x, weight, bias, groups, shift = make_inputs(size, dtype, channels_last)
    for silu, shifted in ((True, shift), (False, None)):
        found = kernels.run(x, weight, bias, groups, 1e-5, silu, shifted)
        assert found.stride() == x.stride()
        assert differ(found, compute_exactly(x, weight, bias, groups, 1e-5, silu, shifted)) < ERRORS[dtype]


def test_pictures_may_share_a_shift():
    x, weight, bias, groups, shift = make_inputs((2, 64, 4, 4, 32), torch.float32, True)
    shared = shift[:1].expand(2, -1)
    found = kernels.run(x, weight, bias, groups, 1e-5, True, shared)
    assert differ(found, compute_exactly(x, weight, bias, groups, 1e-5, True, shared)) < 2e-6


@pytest.mark.parametrize(("channels_last", "seam"), [(True, 32), (True, 64), (True, 50), (False, 32)])
def test_channels_may_come_in_two_parts(channels_last, seam):
    x, weight, bias, groups, shift = make_inputs((2, 96, 4, 5, 32), torch.float32, channels_last)
    whole = (weight, bias, groups, 1e-5, True, shift)
    wanted = compute_exactly(x, *whole)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    parts = [part.contiguous(memory_format=layout) for part in x.split([seam, 96 - seam], dim=1)]
    for run in (kernels.run, group_norm_silu):
        found = run(parts[0], *whole, parts[1])
        assert found.stride() == x.stride()
        assert differ(found, wanted) < 2e-6
    torch.library.opcheck(torch.ops.swiftdiffusion.group_norm_silu.default, (parts[0], *whole, parts[1]))


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_operator_is_whole(channels_last):
    x, weight, bias, groups, shift = make_inputs((2, 12, 4, 5, 3), torch.float32, channels_last)
    found = group_norm_silu(x, weight, bias, groups, 1e-5, True, shift)
    assert differ(found, compute_exactly(x, weight, bias, groups, 1e-5, True, shift)) < 2e-6
    torch.library.opcheck(
        torch.ops.swiftdiffusion.group_norm_silu.default, (x, weight, bias, groups, 1e-5, True, shift)
    )
