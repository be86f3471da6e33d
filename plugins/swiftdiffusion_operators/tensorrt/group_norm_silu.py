"""GroupNorm alone, with SiLU, and with the shift before it too, as plugins of one kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

from swiftdiffusion_operators.tensorrt.operator import Call, Operator, Shape

FP32_BYTES = 4


class GroupNorm(Operator):
    """x [batch, channels, height, width], weight and bias [channels] to the shape of x."""

    name = "GroupNorm"
    attributes: ClassVar[Mapping[str, type]] = {"groups": int, "epsilon": float}
    has_pictures = True
    silu: ClassVar[bool] = False

    def workspace_bytes(self, shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> int:
        """What the kernels say."""
        from swiftdiffusion_operators.kernels.group_norm_silu import bound_workspace

        batch, channels, *_ = shapes[0]
        return bound_workspace(batch, channels) * FP32_BYTES

    def launch(self, call: Call, attributes: Mapping[str, Any]) -> None:
        """Enqueue ``kernels.group_norm_silu``."""
        from swiftdiffusion_operators.kernels import group_norm_silu as kernel

        batch, channels, *picture = call.shapes[0]
        x, weight, bias, *shifts = call.inputs
        extent = kernel.Extent(batch, channels, prod(picture), attributes["groups"], call.channels_last)
        kernel.launch(
            x,
            shifts[0] if shifts else None,
            channels if shifts else 0,
            weight,
            bias,
            call.output,
            call.workspace,
            call.workspace.advance(extent.table * FP32_BYTES),
            extent,
            attributes["epsilon"],
            self.silu,
        )


class GroupNormSilu(GroupNorm):
    """The same, with SiLU after it."""

    name = "GroupNormSiLU"
    silu = True


class ShiftedGroupNormSilu(GroupNormSilu):
    """The same, with a fourth input [batch, channels] that is added to every pixel first."""

    name = "ShiftedGroupNormSiLU"
