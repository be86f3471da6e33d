"""GEGLU as an ONNX node."""

from __future__ import annotations

from torch import Tensor

from swiftdiffusion_operators.onnx.node import body, emit

GEGLU = body(
    "GEGLU <plugin_namespace, plugin_version> (x) => (y)",
    "values, gates = Split <axis = -1, num_outputs = 2> (x)",
    "one = Constant <value_float = 1.0> ()",
    "half = Constant <value_float = 0.5> ()",
    "root = Constant <value_float = 0.70710678> ()",
    "wide = Cast <to = 1> (gates)",
    "scaled = Mul (wide, root)",
    "erf = Erf (scaled)",
    "risen = Add (erf, one)",
    "halved = Mul (wide, half)",
    "gelu = Mul (halved, risen)",
    "narrow = CastLike (gelu, x)",
    "y = Mul (values, narrow)",
)


def emit_geglu(x: Tensor) -> Tensor:
    """Stand for ``swiftdiffusion::geglu`` in an export: [..., 2 n] to [..., n]."""
    return emit("GEGLU", (x,), {}, like=x.chunk(2, dim=-1)[0])
