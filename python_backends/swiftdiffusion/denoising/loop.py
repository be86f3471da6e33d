"""The denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.denoising.conditioning import Conditioning, guide
from swiftdiffusion.denoising.controls import Control, start_controls, sum_residuals
from swiftdiffusion.denoising.schedulers import predict_clean
from swiftdiffusion.denoising.stopwatch import Stopwatch


@dataclass(frozen=True)
class Step:
    """What a step's observer sees."""

    number: int  # from 1
    of: int
    predict_clean: Callable[[], Tensor]  # the picture so far, as latents [1, 4, h, w]


@torch.inference_mode()
def denoise(
    encoder: Callable[..., tuple[Tensor, ...]],
    decoder: Callable[..., Tensor],
    scheduler: Any,
    latents: Tensor,
    conditioning: Conditioning,
    controls: Sequence[Control],
    guidance_scale: float,
    generator: torch.Generator,
    before_step: Callable[[int], None],
    after_step: Callable[[Step], None],
    stopwatch: Stopwatch,
) -> Tensor:
    """Turn noise into clean latents.

    Args:
        encoder: the UNet's first half (`UNetEncoder`).
        decoder: its second half (`UNetDecoder`).
        scheduler: a diffusers scheduler with its timesteps set.
        latents: [1, 4, h, w], noise scaled by ``scheduler.init_noise_sigma``.
        conditioning: batch 2 for guidance, 1 without.
        controls: the ControlNets, in the request's order.
        guidance_scale: as in diffusers.
        generator: for schedulers that draw noise in their steps.
        before_step: called with the step's number from 0; patches LoRAs and may raise to stop.
        after_step: called when a step is done; may raise to stop.
        stopwatch: gets the time of each part.

    Returns:
        Clean latents [1, 4, h, w], in the VAE's scaled space.
    """
    steps = len(scheduler.timesteps)
    draws = {"generator": generator} if "generator" in signature(scheduler.step).parameters else {}
    for step, timestep in enumerate(scheduler.timesteps):
        before_step(step)
        sample = scheduler.scale_model_input(latents.repeat(conditioning.batch, 1, 1, 1), timestep)

        running = start_controls(controls, sample, timestep, step, steps)
        with stopwatch("unet_encoder"):
            mid, embedding, *skips = encoder(
                sample, timestep, conditioning.prompt_embeds, conditioning.pooled, conditioning.time_ids
            )
        with stopwatch("controlnet_wait"):
            residuals = sum_residuals(running, [tensor.shape for tensor in (*skips, mid)], like=mid)
        with stopwatch("unet_decoder"):
            noise = decoder(mid, embedding, skips, residuals, conditioning.prompt_embeds)

        with stopwatch("scheduler"):
            noise = guide(noise, guidance_scale)
            result = scheduler.step(noise, timestep, latents, **draws)
        clean = partial(predict_clean, scheduler, result, noise, latents, timestep)
        latents = result.prev_sample
        after_step(Step(step + 1, steps, clean))
    return latents
