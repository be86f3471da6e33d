"""Scenes made once into what the diffusion stages learn from: latents and token ids, kept on the device."""

import logging
import time
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTokenizer

from shapes.captions import short_captions, varied_captions
from shapes.rendering import render
from shapes.world import Scenes, sample_scenes

logger = logging.getLogger(__name__)

SIDES = (128, 96, 160)
SIDE_OF_STEP = (128, 128, 128, 96, 128, 128, 128, 160)
"""The canvas size that each training step uses, again and again."""

_ENCODE_BATCH = 256


@dataclass(frozen=True)
class Pool:
    """n scenes of one canvas size."""

    side: int
    scenes: Scenes
    latents: Tensor  # [n, 4, side / 4, side / 4] float16, scaled to unit deviation
    tokens: Tensor  # [n, 48] int64: captions that say nearly everything
    short_tokens: Tensor  # [n, 48] int64: captions that do not say where; the same as `tokens` unless asked for

    def batch(self, size: int) -> Tensor:
        """Random rows [size], on the pool's device."""
        return torch.randint(len(self.latents), (size,), device=self.latents.device)


def make_pools(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    scenes: int,
    seed: int,
    style: str = "plain",
    short: bool = False,
) -> dict[int, Pool]:
    """Pools by canvas side, three quarters of the scenes at 128 pixels; the same for the same seed."""
    start = time.monotonic()
    pools = {}
    for index, side in enumerate(SIDES):
        share = scenes * 3 // 4 if side == 128 else scenes // 8
        drawn = sample_scenes(share, seed * 10 + index, vae.device)
        tokens = _tokenize(tokenizer, varied_captions(drawn, seed), vae.device)
        short_tokens = _tokenize(tokenizer, short_captions(drawn, seed), vae.device) if short else tokens
        pools[side] = Pool(side, drawn, _encode(vae, drawn, side, style), tokens, short_tokens)
    logger.info("drew and encoded %d %s scenes in %.0f s", scenes, style, time.monotonic() - start)
    return pools


@torch.no_grad()
def _encode(vae: AutoencoderKL, scenes: Scenes, side: int, style: str) -> Tensor:
    parts = []
    for start in range(0, len(scenes), _ENCODE_BATCH):
        pictures = render(scenes[start : start + _ENCODE_BATCH], side, style)
        with torch.autocast(vae.device.type, torch.bfloat16, enabled=vae.device.type == "cuda"):
            mean = vae.encode(pictures).latent_dist.mean
        parts.append((mean.float() * vae.config.scaling_factor).half())
    return torch.cat(parts)


def _tokenize(tokenizer: CLIPTokenizer, captions: list[str], device: torch.device) -> Tensor:
    encoded = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return encoded.input_ids.to(device)
