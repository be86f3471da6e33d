"""SDXL's networks with random weights, each made in one call; different ones may have the same seed."""

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from sdxl.architecture import (
    describe_controlnet,
    describe_text_encoder,
    describe_text_encoder_2,
    describe_unet,
    describe_vae,
)
from sdxl.random_weights import materialise

Device = torch.device | str


def build_unet(dtype: torch.dtype, device: Device, seed: int = 0) -> UNet2DConditionModel:
    """The UNet: latents [batch, 4, h, w] to noise of the same shape; 5.1 GB in fp16."""
    return materialise(describe_unet(), dtype, device, seed)


def build_controlnet(dtype: torch.dtype, device: Device, seed: int = 0) -> ControlNetModel:
    """A ControlNet whose residuals, unlike an untrained one's, are not zero; 2.5 GB in fp16."""
    return materialise(describe_controlnet(), dtype, device, seed)


def build_vae(dtype: torch.dtype, device: Device, seed: int = 0) -> AutoencoderKL:
    """The VAE, images [batch, 3, 8 h, 8 w] and latents [batch, 4, h, w]; 0.2 GB in fp16."""
    return materialise(describe_vae(), dtype, device, seed)


def build_text_encoders(
    dtype: torch.dtype, device: Device, seed: int = 0
) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Both text encoders: ids [batch, 77] below 49,408 to hidden states 768 and 1,280 wide; 1.6 GB in fp16."""
    return (
        materialise(describe_text_encoder(), dtype, device, seed),
        materialise(describe_text_encoder_2(), dtype, device, seed),
    )
