"""ControlNets as the loop sees them: started before the UNet's encoder half, summed before its decoder half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from swiftdiffusion.errors import Internal


class Link(Protocol):
    """The way to one ControlNet that was attached to the request."""

    @property
    def goes_first(self) -> bool:
        """Whether the UNet's encoder half is to run after it, not beside it."""

    def start_step(self, sample: Tensor, timestep: Tensor) -> None:
        """Have it compute the residuals of sample [batch, 4, h, w]; `timestep` is a scalar."""

    def residuals(self) -> Tensor:
        """The started step's residuals, unscaled and flat as `ControlNet` lays them; until the next step starts.

        They may be asked for again.

        Raises `Unavailable` where it is known that they will not come.
        """


@dataclass(frozen=True)
class Control:
    """One ControlNet of a request."""

    name: str
    link: Link
    scale: float
    start: float
    end: float

    def acts_in(self, step: int, steps: int) -> bool:
        """Whether it acts in step `step` of `steps` (from 0), by diffusers' rule for ``control_guidance_*``."""
        return acts_in(step, steps, self.start, self.end)


def acts_in(step: int, steps: int, start: float, end: float) -> bool:
    """Whether a ControlNet that acts from `start` to `end` acts in step `step` of `steps` (from 0)."""
    return not (step / steps < start or (step + 1) / steps > end)


def start_controls(
    controls: Sequence[Control], sample: Tensor, timestep: Tensor, step: int, steps: int
) -> list[Control]:
    """Start every ControlNet that acts in this step, and return them; all run at the same time."""
    acting = [control for control in controls if control.acts_in(step, steps)]
    for control in acting:
        control.link.start_step(sample, timestep)
    return acting


def wait_for_first(acting: Sequence[Control]) -> None:
    """Let what is enqueued next, on the UNet's device, run after the ControlNets of `acting` that go first.

    Only when all are started, so that none waits for another. What comes is left where it is, for `sum_residuals`,
    which adds in the request's order whoever came first.

    Raises:
        Unavailable: one that is known not to answer.
    """
    for control in acting:
        if control.link.goes_first:
            control.link.residuals()


def sum_residuals(acting: Sequence[Control], shapes: Sequence[torch.Size], like: Tensor) -> list[Tensor] | None:
    """Add up scale x residual, in the request's order, as diffusers does.

    Args:
        acting: what `start_controls` returned.
        shapes: of the UNet's skips and, last, of its mid block's output.
        like: a tensor of the UNet's device and dtype.

    Returns:
        One residual for each shape, channels last, until the next step starts; None where no ControlNet acts.

    Raises:
        Internal: a ControlNet made for another UNet.
        Unavailable: one that did not answer in time.
    """
    if not acting:
        return None
    sizes = [shape.numel() for shape in shapes]
    total: Tensor | None = None
    for control in acting:
        residuals = control.link.residuals()
        if residuals.shape != (sum(sizes),):
            raise Internal(
                f"ControlNet {control.name!r} gave {residuals.numel()} residuals where this UNet takes "
                f"{sum(sizes)}: it was made for another base model"
            )
        scaled = residuals.to(like)
        if control.scale != 1:
            scaled = scaled * control.scale
        total = scaled if total is None else total + scaled  # a new tensor: the first one may be the link's own
    assert total is not None
    return [
        part.view(batch, height, width, channels).permute(0, 3, 1, 2)
        for part, (batch, channels, height, width) in zip(total.split(sizes), shapes, strict=True)
    ]
