"""ControlNets as the loop sees them: started beside the UNet's encoder half, summed before its decoder half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor

from swiftdiffusion.errors import Internal
from swiftdiffusion.waiting import wait_for

# starts one step of a ControlNet: (sample [batch, 4, h, w], timestep) -> residuals, flat as `ControlNet` lays them
StartStep = Callable[[Tensor, Tensor], "Future[Tensor]"]


@dataclass(frozen=True)
class Control:
    """One ControlNet attached to a request."""

    name: str
    start_step: StartStep
    scale: float
    start: float
    end: float
    timeout_s: float  # how long a step waits for it

    def acts_in(self, step: int, steps: int) -> bool:
        """Whether it acts in step `step` of `steps` (from 0), by diffusers' rule for ``control_guidance_*``."""
        return not (step / steps < self.start or (step + 1) / steps > self.end)


def start_controls(
    controls: Sequence[Control], sample: Tensor, timestep: Tensor, step: int, steps: int
) -> list[tuple[Control, Future[Tensor]]]:
    """Start every ControlNet that acts in this step; all run at the same time."""
    return [(c, c.start_step(sample, timestep)) for c in controls if c.acts_in(step, steps)]


def sum_residuals(
    running: Sequence[tuple[Control, Future[Tensor]]], shapes: Sequence[torch.Size], like: Tensor
) -> list[Tensor] | None:
    """Wait for the ControlNets and add up scale x residual, in the request's order, as diffusers does.

    Args:
        running: what `start_controls` returned.
        shapes: of the UNet's skips and, last, of its mid block's output.
        like: a tensor of the UNet's device and dtype.

    Returns:
        One residual for each shape, channels last; None where no ControlNet acts.

    Raises:
        Internal: a ControlNet made for another UNet.
        Unavailable: one that did not answer in time.
    """
    if not running:
        return None
    total = torch.zeros(sum(shape.numel() for shape in shapes), dtype=like.dtype, device=like.device)
    for control, future in running:
        residuals = wait_for(future, f"ControlNet {control.name!r}", control.timeout_s)
        if residuals.shape != total.shape:
            raise Internal(
                f"ControlNet {control.name!r} gave {residuals.numel()} residuals where this UNet takes "
                f"{total.numel()}: it was made for another base model"
            )
        total += residuals.to(total) * control.scale
    parts = total.split([shape.numel() for shape in shapes])
    return [
        part.view(batch, height, width, channels).permute(0, 3, 1, 2)
        for part, (batch, channels, height, width) in zip(parts, shapes, strict=True)
    ]
