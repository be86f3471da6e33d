"""The denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swiftdiffusion.denoising.branch import Branch, join
from swiftdiffusion.denoising.pace import Pace
from swiftdiffusion.denoising.plan import Plan
from swiftdiffusion.denoising.stopwatch import Stopwatch


@dataclass(frozen=True)
class Step:
    """What a step's observer sees."""

    number: int  # from 1
    of: int
    clean: Tensor  # the picture so far, as latents [1, 4, h, w]; only until the next step


@torch.inference_mode()
def denoise(
    branches: Sequence[Branch],
    advance: Callable[..., tuple[Tensor, Tensor]],
    plan: Plan,
    latents: Tensor,
    guidance_scale: float,
    generator: torch.Generator,
    before_step: Callable[[int], None],
    after_step: Callable[[Step], None],
    stopwatch: Stopwatch,
) -> Tensor:
    """Turn noise into clean latents; a GPU never waits for the host.

    Args:
        branches: the UNet, once for the whole guidance batch or once for each of its rows.
        advance: what follows it (`Advance`), on the latents' device.
        plan: the scheduler's, on the latents' device.
        latents: [1, 4, h, w] fp32, noise scaled by ``plan.noise_scale``.
        guidance_scale: as in diffusers.
        generator: for schedulers that draw noise in their steps.
        before_step: called with the step's number from 0; patches LoRAs and may raise to stop.
        after_step: called when a step is enqueued; may raise to stop.
        stopwatch: gets the host's time in each part.

    Returns:
        Clean latents [1, 4, h, w] fp32, in the VAE's scaled space.
    """
    batch = sum(branch.conditioning.batch for branch in branches)
    timesteps, weights = plan.timesteps.unbind(), plan.steer(guidance_scale, batch).unbind()
    state = plan.start(latents)
    sample = (latents * plan.scales[0]).to(branches[0].conditioning.prompt_embeds.dtype).repeat(batch, 1, 1, 1)
    pace = Pace(latents.device)
    for step in range(plan.steps):
        with stopwatch("waiting"):
            pace.wait()
        before_step(step)
        encoded = [branch.encode(sample, timesteps[step], step, plan.steps, stopwatch) for branch in branches]
        noise = join(
            [branch.decode(half, stopwatch) for branch, half in zip(branches, encoded, strict=True)], latents.device
        )
        with stopwatch("scheduler", latents.device):
            fresh = plan.draw(step, state, generator)
            state, sample = advance(noise, state, fresh, weights[step])
        pace.mark()
        after_step(Step(step + 1, plan.steps, state[-1:]))
    return state[:1].clone()
