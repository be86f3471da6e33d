"""The VAE's decoder as a network: latents in, pixels out."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from swiftdiffusion.networks.latent_scale import LatentScale
from swiftdiffusion.networks.vae_scaling import scale_activations


class VaeDecoder(LatentScale):
    """diffusers' ``AutoencoderKL`` decoder with the pipeline's scaling before it."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__(vae.config)
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder

    def step(self, latents: Tensor, prepared: tuple[()]) -> Tensor:
        """Decode latents [batch, 4, h, w] of the denoising loop's scale to [batch, 3, height, width], about -1 to 1."""
        latents = latents * self.latents_std / self.scaling_factor + self.latents_mean
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)


def load_vae_decoder(folder: Path, dtype: torch.dtype) -> VaeDecoder:
    """Read the VAE of a pipeline's folder (safetensors only), on the CPU.

    One that overflows fp16 and says so (``force_upcast``, as SDXL's own does), which diffusers runs in fp32, is
    scaled down to fit.
    """
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32, use_safetensors=True)
    decoder = VaeDecoder(vae)
    if dtype == torch.float16 and vae.config.force_upcast:
        scale_activations(decoder.decoder)
    return decoder.to(dtype)


def read_latent_extent(folder: Path) -> tuple[int, int]:
    """A pipeline's latent channels, and how many pixels a latent is high and wide."""
    config = AutoencoderKL.load_config(folder / "vae")
    return config["latent_channels"], 2 ** (len(config["block_out_channels"]) - 1)


def to_pixels(image: Tensor) -> Tensor:
    """Turn [batch, 3, height, width] into uint8 [batch, height, width, 3], contiguous; as diffusers does."""
    image = (image.float() / 2 + 0.5).clamp(0, 1)
    # put in order here: the response takes them so, and numpy would need milliseconds for it
    return (image.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).contiguous()
