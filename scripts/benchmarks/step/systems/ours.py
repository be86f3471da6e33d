"""This project, as a lane runs it, in one process and without a server."""

from __future__ import annotations

from functools import cache

import torch

from benchmarks.step.checkpoints import Networks
from benchmarks.step.systems import Output
from benchmarks.step.workload import Workload
from swiftdiffusion.denoising.advance import Advance
from swiftdiffusion.denoising.branch import Branch, UNet
from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.denoising.loop import denoise
from swiftdiffusion.denoising.plan import make_plan
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.controlnet import ControlNet
from swiftdiffusion.networks.unet import UNetDecoder, UNetEncoder
from swiftdiffusion.networks.vae_decoder import VaeDecoder
from swiftdiffusion.placement import Placement


class SwiftDiffusion:
    """The networks on engines of one kind, and the denoising loop.

    What a picture's steps share, such as the prompt's keys and values, an engine computes when it gets new tensors: in
    the first call of `unet` and `controlnet`, and once in each `image`.
    """

    def __init__(self, networks: Networks, placement: Placement, engine: str) -> None:
        """Raises InvalidArgument for an engine that does not exist or not on this device."""
        self._encoder = make_engine(engine, UNetEncoder(networks.unet), placement)
        self._decoder = make_engine(engine, UNetDecoder(networks.unet), placement)
        self._controlnet = make_engine(engine, ControlNet(networks.controlnet), placement)
        self._vae_decoder = make_engine(engine, VaeDecoder(networks.vae), placement)
        self._advance = make_engine("torch" if engine == "torch" else "auto", Advance(), placement)
        config = networks.scheduler.config
        self._plan = cache(lambda steps: make_plan("EulerDiscreteScheduler", config, steps).on(placement.device))

    def unet(self, work: Workload) -> Output:
        """Both halves, with no ControlNet between them."""
        return self._predict(work, work.conditioning)

    def unet_wordless(self, work: Workload) -> Output:
        """The same where only one half has a prompt."""
        return self._predict(work, work.wordless)

    def controlnet(self, work: Workload) -> Output:
        """One step of a ControlNet, as its service runs it."""
        conditioning = work.conditioning
        return self._controlnet(
            work.sample,
            work.timestep,
            conditioning.prompt_embeds,
            conditioning.pooled,
            conditioning.time_ids,
            work.reference_image,
        )

    def vae(self, work: Workload) -> Output:
        """In the networks' number type."""
        return self._vae_decoder(work.latents)

    def image(self, work: Workload) -> Output:
        """The lane's loop and the VAE."""
        plan = self._plan(work.steps)
        with torch.inference_mode():
            latents = work.noise.float() * plan.noise_scale
        given = work.conditioning  # copied, since each picture has prompts of its own
        conditioning = Conditioning(given.prompt_embeds.clone(), given.pooled.clone(), given.time_ids.clone())
        latents = denoise(
            [Branch(UNet(self._encoder, self._decoder), conditioning, [])],
            self._advance,
            plan,
            latents,
            work.guidance_scale,
            torch.Generator(),
            before_step=lambda step: None,
            after_step=lambda step: None,
            stopwatch=Stopwatch(),
        )
        return self._vae_decoder(latents.to(given.prompt_embeds.dtype))

    def _predict(self, work: Workload, conditioning: Conditioning) -> Output:
        mid, embedding, *skips = self._encoder(
            work.sample, work.timestep, conditioning.prompt_embeds, conditioning.pooled, conditioning.time_ids
        )
        return self._decoder(mid, embedding, skips, None, conditioning.prompt_embeds)
