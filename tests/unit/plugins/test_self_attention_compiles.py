"""The kernel compiled: the ways in which it could silently be slow."""

import re
from itertools import pairwise

import pytest

pytest.importorskip("triton")

SOURCE = """
import sys
from triton.experimental.gluon._runtime import GluonASTSource
from triton.experimental.gluon import language as gl
from swiftdiffusion_operators.kernels import self_attention as kernel

kind, layout = sys.argv[1], gl.NVMMASharedLayout(128, 16, 3)
one, some = (f"tensordesc<{kind}[1, {rows}, {kernel.WIDTH}],{layout!r}>" for rows in (kernel.UNIT, kernel.KEYS))
types = {"one": one, "some": some, "y": one, "table": "*i32", "tokens": "i32", "heads": "i32", "scale": "fp32"}
names = ("GROUPS", "STAGES", "START_BITS", "UNITS_BITS", "HEAD_BITS", "GROUP_REGISTERS", "FETCH_REGISTERS")
constants = {name: getattr(kernel, name) for name in names}
source = GluonASTSource(kernel.attend_in_tiles, types | dict.fromkeys(constants, "constexpr"), constants)
options = {"num_warps": kernel.GROUP_WARPS, "maxnreg": kernel.REGISTERS}
"""


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_exponentiates_while_it_multiplies(compile_for_hopper, kind):
    """Each group: the first scores alone; then both products and, until the second is waited for, exponentials."""
    compiled = compile_for_hopper(SOURCE, kind)
    assert "0 bytes spill stores, 0 bytes spill loads" in compiled.told and "serializ" not in compiled.told
    events = re.findall(r"(HGMMA\.64x\d+|MUFU\.EX2|DEPBAR\.LE gsb0, 0x\d)", compiled.instructions)
    order = [events[0], *(event for before, event in pairwise(events) if event != before)]
    scores, mixed, all_done = "HGMMA.64x128", "HGMMA.64x64", "DEPBAR.LE gsb0, 0x0"
    first = [scores, all_done, "MUFU.EX2"]
    each = [scores, mixed, "DEPBAR.LE gsb0, 0x1", "MUFU.EX2", all_done]
    assert order == [*first, *each, mixed, all_done] * 3
    assert events.count("MUFU.EX2") == 3 * (64 + 66)  # a thread's weights, and how its two rows' results fade
