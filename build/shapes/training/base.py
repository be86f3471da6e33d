"""Stage `base`: UNet and both text encoders together, from nothing."""

from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from shapes.training.data import SIDE_OF_STEP, make_pools
from shapes.training.denoising import DROP_PROMPT, denoising_loss, encode_prompt, prepare
from shapes.training.loop import Schedule, train

SCHEDULE = Schedule(steps=8000, batch=512, rate=1e-3, seed=2, warmup=500, decay=0.999)
_SCENES = 160_000


def train_base(pipeline: StableDiffusionXLPipeline, schedule: Schedule, state: Path, compiled: bool) -> None:
    """Train the pipeline's UNet and text encoders on latents of its (finished) VAE."""
    pools = make_pools(pipeline.vae, pipeline.tokenizer, schedule.scenes(_SCENES), schedule.seed)
    prepare(pipeline)
    unet = pipeline.unet
    # Only the size of most steps is compiled: the others would cost a compilation each.
    fast_unet = torch.compile(unet, dynamic=False) if compiled else unet

    def loss_of(side: int) -> Tensor:
        pool = pools[side]
        rows = pool.batch(schedule.batch)
        prompt = encode_prompt(pipeline, pool.tokens[rows]).dropped(DROP_PROMPT)
        network = fast_unet if side == 128 else unet

        def predict(latents: Tensor, timesteps: Tensor, embeddings: Tensor, added: dict[str, Tensor]) -> Tensor:
            return network(latents, timesteps, embeddings, added_cond_kwargs=added, return_dict=False)[0]

        return denoising_loss(pipeline, pool.latents[rows], prompt, side, predict)

    networks = (unet, pipeline.text_encoder, pipeline.text_encoder_2)
    parameters = [p for network in networks for p in network.parameters()]
    train("base", parameters, loss_of, SIDE_OF_STEP, schedule, state)
