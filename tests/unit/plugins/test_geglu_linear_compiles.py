"""Hopper's kernel compiled: the ways in which it could silently be slow."""

import re

import pytest

pytest.importorskip("triton")

SOURCE = """
import sys
from triton.experimental.gluon._runtime import GluonASTSource
from triton.experimental.gluon import language as gl
from swiftdiffusion_operators.kernels import geglu_linear_hopper as kernel

kind, layout = sys.argv[1], gl.NVMMASharedLayout(128, 16)
blocks = {
    "x": (kernel.ROWS, kernel.DEPTH), "weight": (kernel.COLUMNS, kernel.DEPTH), "y": (kernel.ROWS // 2, kernel.COLUMNS)
}
x, weight, y = (f"tensordesc<{kind}[{rows}, {columns}],{layout!r}>" for rows, columns in blocks.values())
types = {"x": x, "weight": weight, "bias": "*" + kind, "y": y, "rows": "i32", "width": "i32", "depth": "i32"}
names = ("STAGES", "TILES_DOWN", "GROUP_REGISTERS", "FETCH_REGISTERS")
constants = {name: getattr(kernel, name) for name in names}
aligned = {(at,): [["tt.divisibility", 16]] for at in (2, 5)}  # the bias and the width
source = GluonASTSource(kernel.project_and_gate, types | dict.fromkeys(names, "constexpr"), constants, aligned)
options = {"num_warps": kernel.GROUP_WARPS, "maxnreg": kernel.REGISTERS}
"""
SHARED_MEMORY = 227 * 1024  # bytes that a program may have on Hopper


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_multiplies_as_wide_as_the_units_are_while_a_warp_fetches(compile_for_hopper, kind):
    compiled = compile_for_hopper(SOURCE, kind)
    assert compiled.shared <= SHARED_MEMORY
    assert "0 bytes spill stores, 0 bytes spill loads" in compiled.told and "serializ" not in compiled.told
    products = re.findall(r"wgmma\.mma_async\S+", compiled.assembly)
    number = {"fp16": "f16", "bf16": "bf16"}[kind]
    assert set(products) == {f"wgmma.mma_async.sync.aligned.m64n256k16.f32.{number}.{number}"}
    assert len(products) == 2 * 4  # two groups, a step's features by 16 at a time
    assert compiled.assembly.count("cp.async.bulk.tensor.2d.shared") == 3  # rows, values' and gates' weights
    assert compiled.assembly.count("cp.async.bulk.tensor.2d.global") == 2  # each group's results
    loads = re.findall(r"\bld\.global\S*", compiled.assembly)  # the bias alone
    assert loads and not any(load.endswith(("b8", "b16")) for load in loads)  # pairs at least
