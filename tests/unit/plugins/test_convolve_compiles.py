"""The kernel compiled: the ways in which it could silently be slow."""

import re

import pytest

pytest.importorskip("triton")
from swiftdiffusion_operators.kernels.convolution_tiles import WIDTHS

SOURCE = """
import sys
from triton.experimental.gluon._runtime import GluonASTSource
from triton.experimental.gluon import language as gl
from swiftdiffusion_operators.kernels import convolve as kernel
from swiftdiffusion_operators.kernels.convolution_tiles import DEPTH, WIDTHS

kind, tile = sys.argv[1], WIDTHS[int(sys.argv[2])]

def describe_pixels(channels):
    return f"tensordesc<{kind}[1, 8, 8, {channels}],{gl.NVMMASharedLayout(2 * channels, 16, 4)!r}>"

def describe_weights(rows):
    return f"tensordesc<{kind}[{rows}, {DEPTH}],{gl.NVMMASharedLayout(128, 16)!r}>"

types = {
    "x": describe_pixels(DEPTH), "wide": describe_weights(tile.wide),
    "narrow": describe_weights(tile.narrow or tile.wide), "residual": describe_pixels(tile.piece),
    "y": describe_pixels(tile.piece), "bias": "*" + kind,
} | dict.fromkeys(("batch", "height", "width", "channels", "out"), "i32")
constants = {
    "NARROW": tile.narrow, "STAGES": tile.stages, "SIDE": 3, "BIASED": True, "ADDS": True,
    "GROUP_REGISTERS": kernel.GROUP_REGISTERS, "FETCH_REGISTERS": kernel.FETCH_REGISTERS,
}
aligned = {(at,): [["tt.divisibility", 16]] for at in (5, 10)}  # the bias and the channels that go out
types |= dict.fromkeys(constants, "constexpr")
source = GluonASTSource(kernel.convolve_in_tiles, types, constants, aligned)
options = {"num_warps": kernel.GROUP_WARPS, "maxnreg": kernel.REGISTERS}
"""
SHARED_MEMORY = 227 * 1024  # bytes that a program may have on Hopper


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
@pytest.mark.parametrize("number", range(len(WIDTHS)))
def test_multiplies_all_that_it_holds_at_once(compile_for_hopper, number, kind):
    width, compiled = WIDTHS[number], compile_for_hopper(SOURCE, kind, str(number))
    assert compiled.shared <= SHARED_MEMORY
    assert "0 bytes spill stores, 0 bytes spill loads" in compiled.told and "serializ" not in compiled.told
    widths = [wide for wide in (width.wide, width.narrow) if wide]
    products = re.findall(r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k16", compiled.assembly)
    in_turn = [str(wide) for wide in widths for _ in range(4)]  # a step's channels by 16 at a time
    assert products == 2 * in_turn  # of both groups
    pieces = width.channels // width.piece
    assert compiled.assembly.count("cp.async.bulk.tensor.2d.shared") == len(widths)  # weights
    assert compiled.assembly.count("cp.async.bulk.tensor.4d.shared") == 2 + 2 * pieces  # pixels, residuals
    assert compiled.assembly.count("cp.async.bulk.tensor.4d.global") == 2 * pieces  # each group's results
