"""Stages `outline`, `pixelated`, `night` and `hatching`: a style each, as a LoRA on the frozen base model."""

from pathlib import Path

from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from shapes.adapters import Adapter, attach
from shapes.training.data import SIDE_OF_STEP, make_pools
from shapes.training.denoising import DROP_PROMPT, denoising_loss, encode_prompt, prepare
from shapes.training.loop import Schedule, train

SCHEDULES = {
    "outline": Schedule(steps=2000, batch=256, rate=2e-3, seed=5, weight_decay=0.0),
    "pixelated": Schedule(steps=700, batch=256, rate=2e-3, seed=6, weight_decay=0.0),
    "night": Schedule(steps=700, batch=256, rate=2e-3, seed=7, weight_decay=0.0),
    "hatching": Schedule(steps=2000, batch=256, rate=2e-3, seed=8, weight_decay=0.0),
}
_SCENES = 12_000


def train_lora(adapter: Adapter, pipeline: StableDiffusionXLPipeline, schedule: Schedule, state: Path) -> None:
    """Attach the LoRA to the pipeline and train it on pictures of its style, with captions that do not name it."""
    scenes = schedule.scenes(_SCENES)
    pools = make_pools(pipeline.vae, pipeline.tokenizer, scenes, schedule.seed, adapter.name)
    for component in (pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2):
        component.requires_grad_(False)
    parameters = attach(adapter, pipeline)
    prepare(pipeline)

    def predict(latents: Tensor, timesteps: Tensor, embeddings: Tensor, added: dict[str, Tensor]) -> Tensor:
        return pipeline.unet(latents, timesteps, embeddings, added_cond_kwargs=added, return_dict=False)[0]

    def loss_of(side: int) -> Tensor:
        pool = pools[side]
        rows = pool.batch(schedule.batch)
        prompt = encode_prompt(pipeline, pool.tokens[rows]).dropped(DROP_PROMPT)
        return denoising_loss(pipeline, pool.latents[rows], prompt, side, predict)

    train(adapter.name, parameters, loss_of, SIDE_OF_STEP, schedule, state)
