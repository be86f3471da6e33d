"""Stages `edges` and `layout`: a ControlNet each, on the frozen base model."""

from pathlib import Path

import torch
from diffusers import ControlNetModel, StableDiffusionXLPipeline
from torch import Tensor
from torch.nn import functional

from shapes.conditions import EDGE_CONTRAST, EDGE_WINDOW, LAYOUT_BLOCK
from shapes.rendering import render
from shapes.training.data import SIDE_OF_STEP, make_pools
from shapes.training.denoising import denoising_loss, encode_prompt, prepare
from shapes.training.loop import Schedule, compute_dtype, train

SCHEDULES = {
    "edges": Schedule(steps=1600, batch=256, rate=5e-4, seed=3),
    "layout": Schedule(steps=700, batch=256, rate=5e-4, seed=4),
}
_SCENES = 24_000
_SHORT_PROMPT = 0.4
_DROP_PROMPT = 0.2


def train_controlnet(
    name: str,
    pipeline: StableDiffusionXLPipeline,
    controlnet: ControlNetModel,
    schedule: Schedule,
    state: Path,
) -> None:
    """Train a fresh copy of the UNet's encoder to steer by `condition(name, …)`; base model unchanged.

    Prompts often say little, so that the condition must be obeyed rather than the prompt.
    """
    pools = make_pools(pipeline.vae, pipeline.tokenizer, schedule.scenes(_SCENES), schedule.seed, short=True)
    prepare(pipeline)
    dtype = compute_dtype(pipeline.device)
    controlnet.to(dtype)
    for component in (pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2):
        component.requires_grad_(False)

    def loss_of(side: int) -> Tensor:
        pool = pools[side]
        rows = pool.batch(schedule.batch)
        is_short = torch.rand(len(rows), 1, device=rows.device) < _SHORT_PROMPT
        with torch.no_grad():
            tokens = torch.where(is_short, pool.short_tokens[rows], pool.tokens[rows])
            prompt = encode_prompt(pipeline, tokens).dropped(_DROP_PROMPT)
            hint = condition(name, render(pool.scenes[rows], side)).to(dtype)

        def predict(latents: Tensor, timesteps: Tensor, embeddings: Tensor, added: dict[str, Tensor]) -> Tensor:
            down, middle = controlnet(latents, timesteps, embeddings, hint, added_cond_kwargs=added, return_dict=False)
            return pipeline.unet(
                latents,
                timesteps,
                embeddings,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                added_cond_kwargs=added,
                return_dict=False,
            )[0]

        return denoising_loss(pipeline, pool.latents[rows], prompt, side, predict)

    train(name, list(controlnet.parameters()), loss_of, SIDE_OF_STEP, schedule, state)


def condition(name: str, pictures: Tensor) -> Tensor:
    """What `shapes.conditions` makes of pictures [n, 3, h, w] in [-1, 1]: reference images in [0, 1], same shape."""
    pictures = (pictures + 1) / 2
    if name == "edges":
        brightest, negated_darkest = _window_maximum(pictures), _window_maximum(-pictures)
        strokes = (brightest + negated_darkest).amax(dim=1, keepdim=True) > (EDGE_CONTRAST + 0.5) / 255
        return strokes.to(pictures.dtype).expand_as(pictures)
    blocks = functional.avg_pool2d(pictures, LAYOUT_BLOCK)
    return functional.interpolate(blocks, scale_factor=LAYOUT_BLOCK)


def _window_maximum(pictures: Tensor) -> Tensor:
    return functional.max_pool2d(pictures, EDGE_WINDOW, stride=1, padding=EDGE_WINDOW // 2)
