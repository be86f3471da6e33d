"""The patch's kernel compiled: the ways in which it could silently be slow."""

import re

import pytest

pytest.importorskip("triton")

SOURCE = """
import sys
import triton.language as tl
from triton.compiler import ASTSource
from swiftdiffusion_operators.kernels.lora_patch import Tiling, patch_tile

tiling, changes, factor = Tiling(), sys.argv[1] == "changes", getattr(tl, sys.argv[2])
tables = {"tiles": "*i32", "layers": "*i64", "terms": "*i64", "scales": "*fp32"}
constants = {
    "WEIGHT": tl.float16, "FACTOR": factor, "ALIGNED": True, "CHANGES": changes, "FULL": False,
    "ROWS": tiling.rows, "COLUMNS": tiling.columns, "DEPTH": tiling.depth,
}
source = ASTSource(patch_tile, tables | dict.fromkeys(constants, "constexpr"), constants)
options = {"num_warps": tiling.warps, "num_stages": tiling.stages}
"""


def list_accesses(assembly: str) -> tuple[list[str], list[str]]:
    """Loads of numbers (not of table entries, which are single) and stores."""
    loads = re.findall(r"\b(?:ld\.global\S*|cp\.async\.c[ag]\S*)", assembly)
    stores = re.findall(r"\bst\.global\S*", assembly)
    return [load for load in loads if not load.endswith(("global.b64", "global.b32"))], stores


@pytest.mark.parametrize("factor", ["float16", "bfloat16"])
def test_patches_with_tensor_cores_and_wide_accesses(compile_for_hopper, factor):
    assembly = compile_for_hopper(SOURCE, "changes", factor).assembly
    assert "wgmma.mma_async" in assembly
    loads, stores = list_accesses(assembly)
    assert loads and all("v4.b32" in load or load.startswith("cp.async.cg") for load in loads)
    assert stores and all("v4.b32" in store for store in stores)


def test_restoring_is_a_copy_with_wide_accesses(compile_for_hopper):
    assembly = compile_for_hopper(SOURCE, "copies", "float16").assembly
    assert "mma" not in assembly
    loads, stores = list_accesses(assembly)
    assert len(loads) == len(stores)
    assert all("v4.b32" in access for access in loads + stores)
