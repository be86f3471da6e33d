"""Stage `vae`: the autoencoder, on pictures of all styles."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from torch import Tensor

from shapes.rendering import STYLES, render
from shapes.training.loop import Schedule, compute_dtype, train
from shapes.world import Scenes, sample_scenes

SCHEDULE = Schedule(steps=6000, batch=128, rate=1e-3, seed=1)

_SCENES = 100_000
_KL_WEIGHT = 2e-5
_GRADIENT_WEIGHT = 0.5
_SQUARE_WEIGHT = 4.0
_SIDES = (128, 128, 128, 96, 160)


def train_vae(pipeline: StableDiffusionXLPipeline, schedule: Schedule, state: Path) -> None:
    """Train the pipeline's VAE and set its `scaling_factor` so that latents deviate by 1."""
    vae: AutoencoderKL = pipeline.vae
    scenes = sample_scenes(schedule.scenes(_SCENES), schedule.seed, vae.device)
    dtype = compute_dtype(vae.device)
    vae.to(dtype)

    def loss_of(side: int) -> Tensor:
        pictures = _pictures(scenes, schedule.batch, side)
        posterior = vae.encode(pictures.to(dtype)).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float())
        return _reconstruction_loss(decoded.float(), pictures) + _KL_WEIGHT * kl.mean()

    train("vae", list(vae.parameters()), loss_of, _SIDES, schedule, state)
    vae.register_to_config(scaling_factor=round(1 / _deviation(vae, scenes), 5))


def _pictures(scenes: Scenes, batch: int, side: int) -> Tensor:
    """Half of them plain, the other half shared by the styles."""
    parts = []
    for style in STYLES:
        share = batch // 2 if style == "plain" else batch // 8
        rows = torch.randint(len(scenes), (share,), device=scenes.count.device)
        parts.append(render(scenes[rows], side, style))
    return torch.cat(parts)


def _reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Absolute and squared error, and that of the differences between neighbours: blurred borders cost more.

    The squared error is for the colours of the objects, which cover a tenth of a picture.
    """
    error = decoded - pictures
    borders = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + _SQUARE_WEIGHT * error.square().mean() + _GRADIENT_WEIGHT * borders


@torch.no_grad()
def _deviation(vae: AutoencoderKL, scenes: Scenes) -> float:
    """Root mean square of the latents of plain pictures."""
    return float(vae.encode(render(scenes[:256], 128)).latent_dist.mean.square().mean().sqrt())
