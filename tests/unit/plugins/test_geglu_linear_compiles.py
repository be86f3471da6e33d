"""Hopper's kernel compiled for an H100 or H200, which needs no GPU: the ways in which it could silently be slow."""

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton")

# In a process of its own: in this one Triton may interpret. Prints the kernel's shared memory and assembly.
COMPILE = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon._runtime import GluonASTSource
from triton.experimental.gluon import language as gl
from swiftdiffusion_operators.kernels import geglu_linear_hopper as kernel

kind, layout = sys.argv[1], gl.NVMMASharedLayout(128, 16)
x, weight, y = (
    f"tensordesc<{kind}[{rows}, {columns}],{layout!r}>"
    for rows, columns in (
        (kernel.ROWS, kernel.DEPTH), (kernel.COLUMNS, kernel.DEPTH), (kernel.ROWS // 2, kernel.COLUMNS)
    )
)
tables = {"x": x, "weight": weight, "bias": "*" + kind, "y": y, "rows": "i32", "width": "i32", "depth": "i32"}
names = ("STAGES", "TILES_DOWN", "GROUP_REGISTERS", "FETCH_REGISTERS")
constants = {name: getattr(kernel, name) for name in names}
aligned = {(at,): [["tt.divisibility", 16]] for at in (2, 5)}  # the bias and the width
source = GluonASTSource(kernel.project_and_gate, tables | dict.fromkeys(names, "constexpr"), constants, aligned)
options = {"num_warps": kernel.GROUP_WARPS, "maxnreg": kernel.REGISTERS}
compiled = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
print(compiled.metadata.shared)
print(compiled.asm["ptx"])
"""
SHARED_MEMORY = 227 * 1024  # bytes that a program may have on Hopper


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_multiplies_as_wide_as_the_units_are_while_a_warp_fetches(kind: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, kind]
    printed = subprocess.run(command, env=variables, check=True, capture_output=True, text=True, timeout=120).stdout
    shared, assembly = printed.split("\n", 1)
    assert int(shared) <= SHARED_MEMORY
    products = re.findall(r"wgmma\.mma_async\S+", assembly)
    type_name = {"fp16": "f16", "bf16": "bf16"}[kind]
    assert set(products) == {f"wgmma.mma_async.sync.aligned.m64n256k16.f32.{type_name}.{type_name}"}
    assert len(products) == 2 * 4  # two groups, each DEPTH by 16 at a time
    assert assembly.count("cp.async.bulk.tensor.2d.shared") == 3  # rows, values' and gates' weights
    assert assembly.count("cp.async.bulk.tensor.2d.global") == 2  # a result of each group
    assert "setmaxnreg" in assembly and "local" not in assembly  # registers change hands; none is spilled by Triton
    loads = re.findall(r"\bld\.global\S*", assembly)  # the bias alone
    assert loads and not any(load.endswith(("b8", "b16")) for load in loads)  # pairs at least
