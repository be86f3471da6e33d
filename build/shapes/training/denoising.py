"""The loss that base model, ControlNets and LoRAs share: predict v from noisy latents, prompt and size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from shapes.training.loop import compute_dtype

DROP_PROMPT = 0.1


def prepare(pipeline: StableDiffusionXLPipeline) -> None:
    """Put the networks of the loss into the dtype that they compute in, the noise schedule on their device."""
    for network in (pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2):
        network.to(compute_dtype(pipeline.device))
    pipeline.scheduler.alphas_cumprod = pipeline.scheduler.alphas_cumprod.to(pipeline.device)


@dataclass(frozen=True)
class Prompt:
    """What the UNet is told; all zeros where the prompt was dropped, as for an empty one in SDXL."""

    embeddings: Tensor  # [n, 48, width]
    pooled: Tensor  # [n, width of the second encoder]

    def dropped(self, fraction: float) -> "Prompt":
        """A random part of the rows without their prompt, for classifier-free guidance."""
        kept = (torch.rand(len(self.pooled), 1, device=self.pooled.device) >= fraction).to(self.pooled.dtype)
        return Prompt(self.embeddings * kept[..., None], self.pooled * kept)


Predict = Callable[[Tensor, Tensor, Tensor, dict[str, Tensor]], Tensor]
"""Noisy latents, timesteps, prompt embeddings, added conditions: to predicted v."""


def encode_prompt(pipeline: StableDiffusionXLPipeline, tokens: Tensor) -> Prompt:
    """What SDXL's pipeline makes of a prompt's tokens [n, 48]."""
    first = pipeline.text_encoder(tokens, output_hidden_states=True)
    second = pipeline.text_encoder_2(tokens, output_hidden_states=True)
    return Prompt(torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds)


def denoising_loss(
    pipeline: StableDiffusionXLPipeline, latents: Tensor, prompt: Prompt, side: int, predict: Predict
) -> Tensor:
    """Mean squared error of v at uniformly random timesteps (Salimans and Ho 2022, appendix D).

    Latents [n, 4, h, w] of pictures of side by side pixels, scaled to unit deviation; the scalar is fp32.
    """
    n, device, dtype = len(latents), latents.device, compute_dtype(latents.device)
    kept = pipeline.scheduler.alphas_cumprod
    timesteps = torch.randint(len(kept), (n,), device=device)
    signal, noise_level = (part[timesteps].sqrt().view(-1, 1, 1, 1) for part in (kept, 1 - kept))
    latents = latents.float()
    noise = torch.randn_like(latents)
    size = torch.full((n, 2), float(side), device=device)
    added = {"text_embeds": prompt.pooled, "time_ids": torch.cat([size, torch.zeros_like(size), size], dim=1)}
    predicted = predict((signal * latents + noise_level * noise).to(dtype), timesteps, prompt.embeddings, added)
    return torch.nn.functional.mse_loss(predicted.float(), signal * noise - noise_level * latents)
