"""GroupNorm alone, with SiLU, and with the shift before it too, as plugins of one kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from swiftdiffusion_operators.tensorrt.launch import GroupNormSizes
from swiftdiffusion_operators.tensorrt.operator import Operator, Shape


def _sizes(silu: bool) -> Callable[[Sequence[Shape], Mapping[str, Any], bool], GroupNormSizes]:
    def read(inputs: Sequence[Shape], attributes: Mapping[str, Any], channels_last: bool) -> GroupNormSizes:
        batch, channels, *picture = inputs[0]
        groups, epsilon = attributes["groups"], attributes["epsilon"]
        return GroupNormSizes(batch, channels, prod(picture), groups, epsilon, silu, channels_last)

    return read


def _operator(name: str, silu: bool, absent: int) -> Operator:
    attributes = {"groups": int, "epsilon": float}
    return Operator(name, "group_norm_silu", _sizes(silu), attributes, pictures=True, absent=absent)


GROUP_NORMS = (
    _operator("GroupNorm", silu=False, absent=1),
    _operator("GroupNormSiLU", silu=True, absent=1),
    _operator("ShiftedGroupNormSiLU", silu=True, absent=0),
)
