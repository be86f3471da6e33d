"""GEGLU as a plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from swiftdiffusion_operators.tensorrt.launch import GegluSizes
from swiftdiffusion_operators.tensorrt.operator import Operator, Shape


def _sizes(inputs: Sequence[Shape], attributes: Mapping[str, Any], channels_last: bool) -> GegluSizes:
    *rows, width = inputs[0]
    return GegluSizes(prod(rows), width // 2)


GEGLU = Operator("GEGLU", "geglu", _sizes, divisor=2)
