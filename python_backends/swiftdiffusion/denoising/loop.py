"""The denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.denoising.controls import Control, start_controls, sum_residuals
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
    encoder: Callable[..., tuple[Tensor, ...]],
    decoder: Callable[..., Tensor],
    advance: Callable[..., tuple[Tensor, Tensor]],
    plan: Plan,
    latents: Tensor,
    conditioning: Conditioning,
    controls: Sequence[Control],
    guidance_scale: float,
    generator: torch.Generator,
    before_step: Callable[[int], None],
    after_step: Callable[[Step], None],
    stopwatch: Stopwatch,
) -> Tensor:
    """Turn noise into clean latents; a GPU never waits for the host.

    Args:
        encoder: the UNet's first half (`UNetEncoder`).
        decoder: its second half (`UNetDecoder`).
        advance: what follows it (`Advance`).
        plan: the scheduler's.
        latents: [1, 4, h, w] fp32, noise scaled by ``plan.noise_scale``.
        conditioning: batch 2 for guidance, 1 without.
        controls: the ControlNets, in the request's order.
        guidance_scale: as in diffusers.
        generator: for schedulers that draw noise in their steps.
        before_step: called with the step's number from 0; patches LoRAs and may raise to stop.
        after_step: called when a step is enqueued; may raise to stop.
        stopwatch: gets the host's time in each part.

    Returns:
        Clean latents [1, 4, h, w] fp32, in the VAE's scaled space.
    """
    prompt_embeds, pooled, time_ids = conditioning.prompt_embeds, conditioning.pooled, conditioning.time_ids
    timesteps, scales, weights = (tensor.to(latents.device) for tensor in (plan.timesteps, plan.scales, plan.weights))
    guidance = torch.tensor(guidance_scale, device=latents.device)
    state = plan.start(latents)
    sample = (latents * scales[0]).to(prompt_embeds.dtype).repeat(conditioning.batch, 1, 1, 1)
    pace = Pace(latents.device)
    for step in range(plan.steps):
        with stopwatch("waiting"):
            pace.wait()
        before_step(step)
        running = start_controls(controls, sample, timesteps[step], step, plan.steps)
        with stopwatch("unet_encoder", latents.device):
            mid, embedding, *skips = encoder(sample, timesteps[step], prompt_embeds, pooled, time_ids)
        with stopwatch("controlnet_wait"):
            residuals = sum_residuals(running, [tensor.shape for tensor in (*skips, mid)], like=mid)
        with stopwatch("unet_decoder", latents.device):
            noise = decoder(mid, embedding, skips, residuals, prompt_embeds)
        with stopwatch("scheduler", latents.device):
            fresh = plan.draw(step, state, generator)
            scale = scales[min(step + 1, plan.steps - 1)]
            state, sample = advance(noise, state, fresh, weights[step], guidance, scale)
        pace.mark()
        after_step(Step(step + 1, plan.steps, state[-1:]))
    return state[:1].clone()
