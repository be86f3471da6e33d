"""GroupNorm alone, with the SiLU after it, and with the shift before it too, as ONNX nodes.

Three nodes and not one with options, because a body cannot ask whether an input is there.
"""

from __future__ import annotations

from torch import Tensor

from swiftdiffusion_operators.domain import NAME
from swiftdiffusion_operators.onnx.node import body, emit

_ATTRIBUTES = "groups, epsilon, plugin_namespace, plugin_version"
_PASS_ON = "groups: int = @groups, epsilon: float = @epsilon"

GROUP_NORMS = (
    body(
        f"GroupNorm <{_ATTRIBUTES}> (x, weight, bias) => (y)",
        # [batch, groups, elements], in fp32: a group of a large picture is past fp16's sums
        "count = Constant <value_int: int = @groups> ()",
        "last = Constant <value_ints = [-1]> ()",
        "kept = Constant <value_ints = [0]> ()",
        "counts = Reshape (count, last)",
        "grouping = Concat <axis = 0> (kept, counts, last)",
        "wide = Cast <to = 1> (x)",
        "grouped = Reshape (wide, grouping)",
        "axis = Constant <value_ints = [2]> ()",
        "mean = ReduceMean (grouped, axis)",
        "centred = Sub (grouped, mean)",
        "squares = Mul (centred, centred)",
        "variance = ReduceMean (squares, axis)",
        "added = Constant <value_float: float = @epsilon> ()",
        "guarded = Add (variance, added)",
        "deviation = Sqrt (guarded)",
        "scaled = Div (centred, deviation)",
        "shape = Shape (x)",
        "normed = Reshape (scaled, shape)",
        "channels = Constant <value_ints = [1, -1, 1, 1]> ()",
        "wide_weight = Cast <to = 1> (weight)",
        "wide_bias = Cast <to = 1> (bias)",
        "weights = Reshape (wide_weight, channels)",
        "biases = Reshape (wide_bias, channels)",
        "weighted = Mul (normed, weights)",
        "shifted = Add (weighted, biases)",
        "y = CastLike (shifted, x)",
    ),
    body(
        f"GroupNormSiLU <{_ATTRIBUTES}> (x, weight, bias) => (y)",
        f"normed = {NAME}.GroupNorm <{_PASS_ON}> (x, weight, bias)",
        "gate = Sigmoid (normed)",
        "y = Mul (normed, gate)",
    ),
    body(
        f"ShiftedGroupNormSiLU <{_ATTRIBUTES}> (x, weight, bias, shift) => (y)",
        "pixels = Constant <value_ints = [2, 3]> ()",
        "shifts = Unsqueeze (shift, pixels)",
        "shifted = Add (x, shifts)",
        f"y = {NAME}.GroupNormSiLU <{_PASS_ON}> (shifted, weight, bias)",
    ),
)


def emit_group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool, shift: Tensor | None = None
) -> Tensor:
    """Stand for ``swiftdiffusion::group_norm_silu`` in an export; arguments as there, a shift only with SiLU."""
    attributes = {"groups": groups, "epsilon": eps}
    if shift is not None:
        return emit("ShiftedGroupNormSiLU", (x, weight, bias, shift), attributes, like=x)
    return emit("GroupNormSiLU" if silu else "GroupNorm", (x, weight, bias), attributes, like=x)
