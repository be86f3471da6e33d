"""What a LoRA holds for one weight, ready to patch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """One layer of a LoRA: the change of its weight is ``strength · up · down``.

    `down` (A) is [rank, in] or, for a convolution, [rank, in, height, width]; `up` (B) is
    [out, rank] or [out, rank, 1, 1]. Where the change is no product of small matrices, `up` is None
    and `down` the change itself, in the weight's shape. `strength` is alpha / rank. `magnitude` is
    DoRA's, [out], or None. Any floating dtype, host or device.
    """

    down: Tensor
    up: Tensor | None
    strength: float
    magnitude: Tensor | None = None
