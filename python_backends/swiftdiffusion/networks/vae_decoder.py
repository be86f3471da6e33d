"""The VAE's decoder as a network: latents in, pixels out."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from swiftdiffusion.networks.network import Network


class VaeDecoder(Network):
    """diffusers' ``AutoencoderKL`` decoder with the pipeline's scaling before it."""

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder
        self.scaling_factor = vae.config.scaling_factor
        for name, default in (("latents_mean", 0.0), ("latents_std", 1.0)):
            values = getattr(vae.config, name, None) or [default] * vae.config.latent_channels
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def step(self, latents: Tensor, prepared: tuple[()]) -> Tensor:
        """Decode latents [batch, 4, h, w] of the denoising loop's scale to [batch, 3, height, width], about -1 to 1."""
        latents = latents * self.latents_std / self.scaling_factor + self.latents_mean
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)


def load_vae_decoder(folder: Path, dtype: torch.dtype) -> tuple[VaeDecoder, torch.dtype]:
    """Read the VAE of a pipeline's folder (safetensors only), on the CPU.

    Returns:
        The decoder and the number type that it is safe in: SDXL's own VAE overflows in fp16 and says so
        (``force_upcast``), and is then kept in fp32, as diffusers does.
    """
    config = AutoencoderKL.load_config(folder / "vae")
    if dtype == torch.float16 and config.get("force_upcast", True):
        dtype = torch.float32
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype, use_safetensors=True)
    return VaeDecoder(vae), dtype


def to_pixels(image: Tensor) -> Tensor:
    """Turn the decoder's [batch, 3, height, width] into uint8 [batch, height, width, 3] as diffusers does."""
    image = (image.float() / 2 + 0.5).clamp(0, 1)
    return (image.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
