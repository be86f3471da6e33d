"""diffusers as it comes: every operator launched by Python."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from benchmarks.step.checkpoints import Networks
from benchmarks.step.systems import Output
from benchmarks.step.workload import Workload
from swiftdiffusion.denoising.conditioning import Conditioning


class DiffusersEager:
    """diffusers' networks, called as its pipelines call them, and the pipeline itself."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._pipeline = StableDiffusionXLPipeline(
            vae=networks.vae,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=networks.unet,
            scheduler=networks.scheduler,
            add_watermarker=False,
        )
        self._pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def unet(self, work: Workload) -> Output:
        """As `StableDiffusionXLPipeline.__call__` does."""
        return self._predict(work, work.conditioning)

    @torch.no_grad()
    def unet_wordless(self, work: Workload) -> Output:
        """Zeros instead of a negative prompt, as the pipeline has them (``force_zeros_for_empty_prompt``)."""
        return self._predict(work, work.zeros)

    @torch.no_grad()
    def controlnet(self, work: Workload) -> Output:
        """As `StableDiffusionXLControlNetPipeline.__call__` does."""
        down, mid = self._networks.controlnet(
            work.sample,
            work.timestep,
            encoder_hidden_states=work.conditioning.prompt_embeds,
            controlnet_cond=work.reference_image.expand(2, -1, -1, -1),
            conditioning_scale=1.0,
            guess_mode=False,
            added_cond_kwargs={"text_embeds": work.conditioning.pooled, "time_ids": work.conditioning.time_ids},
            return_dict=False,
        )
        return [*down, mid]

    @torch.no_grad()
    def vae(self, work: Workload) -> Output:
        """In the networks' number type, also where the pipeline would change to fp32 for it (`force_upcast`)."""
        return self._decode(work.latents)

    @torch.no_grad()
    def image(self, work: Workload) -> Output:
        """The pipeline's own loop, prompts encoded beforehand."""
        prompt_embeds, pooled = work.conditioning.prompt_embeds, work.conditioning.pooled
        latents = self._pipeline(
            negative_prompt_embeds=prompt_embeds[:1],
            prompt_embeds=prompt_embeds[1:],
            negative_pooled_prompt_embeds=pooled[:1],
            pooled_prompt_embeds=pooled[1:],
            latents=work.noise,
            height=work.size.height,
            width=work.size.width,
            num_inference_steps=work.steps,
            guidance_scale=work.guidance_scale,
            output_type="latent",
        ).images
        return self._decode(latents)

    def _predict(self, work: Workload, conditioning: Conditioning) -> Tensor:
        return self._networks.unet(
            work.sample,
            work.timestep,
            encoder_hidden_states=conditioning.prompt_embeds,
            timestep_cond=None,
            cross_attention_kwargs=None,
            added_cond_kwargs={"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids},
            return_dict=False,
        )[0]

    def _decode(self, latents: Tensor) -> Tensor:
        return self._networks.vae.decode(latents / self._networks.vae.config.scaling_factor, return_dict=False)[0]
