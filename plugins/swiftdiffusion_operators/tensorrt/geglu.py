"""GEGLU as a plugin."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from swiftdiffusion_operators.tensorrt.operator import Call, Operator


class Geglu(Operator):
    """[..., 2 n] to [..., n]."""

    name = "GEGLU"
    divides_last = 2

    def launch(self, call: Call, attributes: Mapping[str, Any]) -> None:
        """Enqueue ``kernels.geglu``."""
        from swiftdiffusion_operators.kernels import geglu as kernel

        *rows, width = call.shapes[0]
        kernel.launch(call.inputs[0], call.output, prod(rows), width // 2)
