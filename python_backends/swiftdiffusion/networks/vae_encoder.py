"""The VAE's encoder as a network: pixels in, latents out."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from swiftdiffusion.networks.latent_scale import LatentScale


class VaeEncoder(LatentScale):
    """diffusers' ``AutoencoderKL`` encoder with the pipeline's scaling after it."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__(vae.config)
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv

    def step(self, image: Tensor, prepared: tuple[()]) -> Tensor:
        """Encode [batch, 3, height, width], -1 to 1, to the likeliest latents [batch, 4, h, w] of the loop's scale."""
        moments = self.encoder(image)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean = moments[:, : moments.shape[1] // 2]  # the rest are logarithms of variances
        return (mean - self.latents_mean) * self.scaling_factor / self.latents_std


def load_vae_encoder(folder: Path, dtype: torch.dtype) -> tuple[VaeEncoder, torch.dtype]:
    """Read the encoder of a pipeline's VAE (safetensors only), on the CPU; returns it and its number type."""
    dtype = find_safe_dtype(folder, dtype)
    return VaeEncoder(AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype, use_safetensors=True)), dtype


def find_safe_dtype(folder: Path, dtype: torch.dtype) -> torch.dtype:
    """The encoder's number type where `dtype` is that of the rest: fp32 where the VAE says that it overflows fp16."""
    overflows = AutoencoderKL.load_config(folder / "vae").get("force_upcast", True)
    return torch.float32 if dtype == torch.float16 and overflows else dtype
