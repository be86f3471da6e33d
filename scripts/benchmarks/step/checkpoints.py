"""The networks that are measured: SDXL's with random weights, or those of `shapes`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, ControlNetModel, EulerDiscreteScheduler, UNet2DConditionModel


@dataclass(frozen=True)
class Networks:
    """A base model's networks as diffusers has them, on their device, and its scheduler."""

    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    vae: AutoencoderKL
    scheduler: EulerDiscreteScheduler


def load_networks(checkpoint: str, dtype: torch.dtype, device: torch.device, seed: int) -> Networks:
    """Make or read a checkpoint, a key of `settings.SIZES`; `shapes` has its weights and needs no seed."""
    if checkpoint == "sdxl":
        from sdxl.architecture import build_scheduler
        from sdxl.networks import build_controlnet, build_unet, build_vae

        return Networks(
            build_unet(dtype, device, seed),
            build_controlnet(dtype, device, seed),
            build_vae(dtype, device, seed),
            build_scheduler(),
        )
    from shapes.checkpoint import controlnet_folder, pipeline_folder

    folder = pipeline_folder()
    return Networks(
        UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype).to(device),
        ControlNetModel.from_pretrained(controlnet_folder("edges"), torch_dtype=dtype).to(device),
        AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype).to(device),
        EulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
    )
