"""What a LoRA does to a weight, as numbers: what is added to its pristine copy, and how its rows are scaled."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One LoRA's change of one weight: ``scale · up · down``, or ``scale · down`` where there is no `up`.

    `down` is [rank, in] or, for a convolution, [rank, in, height, width], `up` [out, rank] or [out, rank, 1, 1]
    (LoRA, arXiv 2106.09685, eq. 3; a convolution's up factor is 1x1, so that its two convolutions in a row are
    the one with the flattened product). Without `up`, `down` has the weight's own shape. Each is fp16, bf16, fp32 or
    fp64, of which the kernel takes what fp32 holds.
    """

    down: Tensor
    up: Tensor | None
    scale: float

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """The tensors that there are."""
        return (self.down,) if self.up is None else (self.down, self.up)


@dataclass(frozen=True)
class WeightPatch:
    """``live = gain · pristine + Σ terms``: fp32 sums, one rounding at the end; without terms and gain a plain copy.

    `live` and `pristine` are fp16, bf16 or fp32, of one shape and dtype, [out, in] or [out, in, height, width].
    `live` may be a view, in either memory format, or transposed. `pristine` may lie in pinned host memory. `gain` is
    fp32 [out], a factor for each row (DoRA), or None for 1.
    """

    live: Tensor
    pristine: Tensor
    terms: tuple[Term, ...] = ()
    gain: Tensor | None = None
