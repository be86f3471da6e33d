"""The patch's kernel compiled for an H100 or H200, which needs no GPU: the ways in which it could silently be slow."""

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton")

# In a process of its own: in this one Triton may interpret. Prints the assembly of the kernel as it is launched.
COMPILE = """
import sys
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from swiftdiffusion_operators.kernels.lora_patch import Tiling, patch_tile

tiling, changes, factor = Tiling(), sys.argv[1] == "changes", getattr(tl, sys.argv[2])
tables = {"tiles": "*i32", "layers": "*i64", "terms": "*i64", "scales": "*fp32"}
constants = {
    "WEIGHT": tl.float16, "FACTOR": factor, "ALIGNED": True, "CHANGES": changes, "FULL": False,
    "ROWS": tiling.rows, "COLUMNS": tiling.columns, "DEPTH": tiling.depth,
}
source = ASTSource(patch_tile, tables | dict.fromkeys(constants, "constexpr"), constants)
options = {"num_warps": tiling.warps, "num_stages": tiling.stages}
print(compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])
"""


def compile_kernel(*arguments: str) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, *arguments]
    return subprocess.run(command, env=variables, check=True, capture_output=True, text=True, timeout=120).stdout


def list_accesses(assembly: str) -> tuple[list[str], list[str]]:
    """Loads of numbers (not of table entries, which are single) and stores."""
    loads = re.findall(r"\b(?:ld\.global\S*|cp\.async\.c[ag]\S*)", assembly)
    stores = re.findall(r"\bst\.global\S*", assembly)
    return [load for load in loads if not load.endswith(("global.b64", "global.b32"))], stores


@pytest.mark.parametrize("factor", ["float16", "bfloat16"])
def test_patches_with_tensor_cores_and_wide_accesses(factor: str) -> None:
    assembly = compile_kernel("changes", factor)
    assert "wgmma.mma_async" in assembly
    loads, stores = list_accesses(assembly)
    assert loads and all("v4.b32" in load or load.startswith("cp.async.cg") for load in loads)
    assert stores and all("v4.b32" in store for store in stores)


def test_restoring_is_a_copy_with_wide_accesses() -> None:
    assembly = compile_kernel("copies", "float16")
    assert "mma" not in assembly
    loads, stores = list_accesses(assembly)
    assert len(loads) == len(stores)
    assert all("v4.b32" in access for access in loads + stores)
