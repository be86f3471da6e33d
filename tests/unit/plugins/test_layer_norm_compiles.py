"""The kernel compiled: the ways in which it could silently be slow."""

import re

import pytest

pytest.importorskip("triton")
from swiftdiffusion_operators.kernels.layer_norm import PIECE, ROWS

SOURCE = """
import sys
from triton.compiler import ASTSource
from swiftdiffusion_operators.kernels import layer_norm as kernel

kind, width = "*" + sys.argv[1], int(sys.argv[2])
types = {"x": kind, "shift": "*fp32", "weight": kind, "bias": kind, "y": kind, "rows": "i32", "eps": "fp32"}
constants = {"WIDTH": width, "PIECE": kernel.PIECE, "ROWS": kernel.ROWS}
aligned = {(at,): [["tt.divisibility", 16]] for at in range(5)}  # the tensors
source = ASTSource(kernel.normalise, types | dict.fromkeys(constants, "constexpr"), constants, aligned)
options = {"num_warps": 1}
"""


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
@pytest.mark.parametrize("width", [640, 1280])
def test_reads_all_once_and_16_bytes_at_a_time(compile_for_hopper, kind, width):
    compiled = compile_for_hopper(SOURCE, kind, str(width))
    assert compiled.shared == 0
    assert "0 bytes spill stores, 0 bytes spill loads" in compiled.told
    loads, stores = (re.findall(rf"\b{way}\.global\S*", compiled.assembly) for way in ("ld", "st"))
    assert all(access.endswith(".v4.b32") for access in (*loads, *stores))
    pieces = -(-width // PIECE)
    assert len(stores) == ROWS * pieces
    assert len(loads) == (ROWS + 2 + 1 + 1) * pieces  # the rows; the shift, in fp32; the weight; the bias
