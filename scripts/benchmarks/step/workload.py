"""What the networks are given: seeded noise of the right shapes, the same for every system and number type."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.step.checkpoints import Networks
from benchmarks.step.settings import Settings, Size
from swiftdiffusion.denoising.conditioning import Conditioning, Embedding, condition

TOKENS = 77
TIMESTEP = 500.0  # any; the work does not depend on it


@dataclass(frozen=True)
class Workload:
    """Inputs of one picture with guidance; floats in the system's number type, on its device."""

    size: Size
    steps: int
    guidance_scale: float
    conditioning: Conditioning  # batch 2: negative prompt, prompt
    zeros: Conditioning  # the same without a negative prompt, as diffusers has it: zeros
    wordless: Conditioning  # and as our lanes have it: left out
    sample: Tensor  # [2, 4, h, w], unit variance, as the scheduler scales it
    timestep: Tensor  # scalar, fp32 as the scheduler's
    reference_image: Tensor  # [1, 3, height, width], 0 to 1
    noise: Tensor  # [1, 4, h, w], the picture's start
    latents: Tensor  # [1, 4, h, w], what the VAE decodes


def make_workload(networks: Networks, settings: Settings, size: Size, dtype: torch.dtype) -> Workload:
    """Draw the inputs of a picture of `size` in fp16's precision, and give them the number type `dtype`."""
    device = networks.unet.device
    generator = torch.Generator().manual_seed(settings.seed)

    def place(values: Tensor) -> Tensor:
        # rounded, so that a reference in a finer number type starts from the very same values
        return values.half().to(device, dtype)

    def draw(*shape: int) -> Tensor:
        return place(torch.randn(shape, generator=generator))

    config = networks.unet.config
    pixels_per_latent = 2 ** (len(networks.vae.config.block_out_channels) - 1)
    latent_shape = (4, size.height // pixels_per_latent, size.width // pixels_per_latent)
    pooled_width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    prompts = [Embedding(draw(TOKENS, config.cross_attention_dim), draw(pooled_width)) for _ in range(2)]
    nothing = Embedding(torch.zeros_like(prompts[1].hidden), torch.zeros_like(prompts[1].pooled))
    return Workload(
        size,
        settings.steps,
        settings.guidance_scale,
        condition(prompts, size.height, size.width),
        condition([nothing, prompts[1]], size.height, size.width),
        condition([prompts[1]], size.height, size.width, wordless=1),
        draw(1, *latent_shape).repeat(2, 1, 1, 1),
        torch.tensor(TIMESTEP, device=device),
        place(torch.rand((1, 3, size.height, size.width), generator=generator)),
        draw(1, *latent_shape),
        draw(1, *latent_shape),
    )
