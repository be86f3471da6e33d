"""A lane's parts in one process and without a server, to draw with a LoRA that comes exactly when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.adapters.weights import ScaledLora
from swiftdiffusion.configuration import Location
from swiftdiffusion.denoising.advance import Advance
from swiftdiffusion.denoising.conditioning import Embedding, condition
from swiftdiffusion.denoising.noise import draw_noise
from swiftdiffusion.denoising.plan import make_plan
from swiftdiffusion.denoising.schedulers import load_scheduler_config
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.networks.vae_decoder import read_latent_extent
from swiftdiffusion.placement import Placement, choose_placement
from swiftdiffusion.request.request import LoraUse
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

Pictures = NDArray[np.uint8]
"""[n, height, width, 3]."""

PIXELS = 2**21  # of all pictures that are drawn at a time: 128 of `shapes`, two of SDXL


class Studio:
    """Draws with one pipeline and the LoRAs of one folder; Euler's scheduler, guidance, no negative prompt."""

    def __init__(self, pipeline: Path, adapters: Path, steps: int, guidance_scale: float, size: int) -> None:
        """On the first GPU in fp16, else on the CPU in fp32. Pictures of `size` x `size` pixels."""
        self.steps, self._guidance_scale, self._size = steps, guidance_scale, size
        self.placement: Placement = choose_placement("auto", "auto", "MODEL", 0)
        encoder, decoder = load_unet(pipeline, self.placement.dtype)
        self._encoder = make_engine("auto", encoder, self.placement)
        self._decoder = make_engine("auto", decoder, self.placement)
        plan = make_plan("EulerDiscreteScheduler", load_scheduler_config(pipeline), steps)
        self._plan = plan.on(self.placement.device)
        self._patcher = Patcher({"unet": [self._encoder, self._decoder]}, [self.placement])
        self._loader = LoraLoader(FolderStore(adapters), Targets.read(pipeline), ("unet",), self.placement.device)
        text_encoder = TextEncoderConfiguration(pipeline=pipeline, adapters=Location(adapters), prompts_max=1024)
        self._text_encoder = TextEncoderService(text_encoder, self.placement)
        self._vae_decoder = VaeDecoderService(VaeDecoderConfiguration(pipeline), self.placement)
        self._channels, pixels_a_latent = read_latent_extent(pipeline)
        self._latent_size = size // pixels_a_latent

    def load(self, name: str, scale: float = 1.0) -> ScaledLora:
        """Load a LoRA's UNet part."""
        return ScaledLora(self._loader.load(self._loader.inspect(name).file).result(), scale)

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        lora: ScaledLora | None,
        bound: int,
        watch: Callable[[int, Tensor], None] = lambda step, latents: None,
    ) -> Pictures:
        """Draw one picture for each prompt and seed, with the LoRA in the UNet from step `bound` on.

        A bound of all steps leaves it out. Its part for the text encoders is there from the start. `watch` is called
        after each step with its number from 0 and the pictures so far as latents [pictures, 4, h, w], of as many
        pictures as are drawn at a time.
        """
        uses = [] if lora is None else [LoraUse(lora.name, lora.scale)]
        hidden, pooled, _ = self._text_encoder.encode(list(prompts), uses)
        place = self.placement
        embeddings = [
            Embedding(*(part.to(place.device, place.dtype) for part in parts))
            for parts in zip(hidden, pooled, strict=True)
        ]
        at_a_time = max(1, PIXELS // self._size**2)
        groups = [slice(start, start + at_a_time) for start in range(0, len(seeds), at_a_time)]
        drawn = [self._draw_group(embeddings[group], seeds[group], lora, bound, watch) for group in groups]
        return np.concatenate(drawn)

    @torch.inference_mode()
    def _draw_group(
        self,
        embeddings: Sequence[Embedding],
        seeds: Sequence[int],
        lora: ScaledLora | None,
        bound: int,
        watch: Callable[[int, Tensor], None],
    ) -> Pictures:
        """As `denoise`, for several pictures in one batch, which small networks do in little more time."""
        self._patcher.restore()
        plan, device = self._plan, self.placement.device
        timesteps, weights, advance = plan.timesteps, plan.steer(self._guidance_scale, 2), Advance()
        conditions = condition(embeddings, self._size, self._size, wordless=len(embeddings))
        noise = torch.cat([self._draw_noise(seed) for seed in seeds]).to(device) * plan.noise_scale
        state = plan.start(noise.flatten(0, 1)[None])  # the scheduler's course is that of one picture of many channels
        sample = (noise * plan.scales[0]).to(self.placement.dtype).repeat(2, 1, 1, 1)
        for step in range(plan.steps):
            if lora is not None and step == bound:
                self._patcher.apply([lora])
            inputs = (sample, timesteps[step], conditions.prompt_embeds, conditions.pooled, conditions.time_ids)
            mid, embedding, *skips = self._encoder(*inputs)
            prediction = self._decoder(mid, embedding, skips, None, conditions.prompt_embeds)
            state, following = advance(prediction.reshape(2, *state.shape[1:]), state, None, weights[step])
            sample = following.view_as(sample)
            watch(step, state[-1].reshape(noise.shape).clone())
        latents = state[0].reshape(noise.shape).cpu().numpy()
        return np.stack([self._vae_decoder.answer({"latents": one[None]})["pixels"] for one in latents])

    def _draw_noise(self, seed: int) -> Tensor:
        return draw_noise(torch.Generator().manual_seed(seed), self._channels, self._latent_size, self._latent_size)

    def close(self) -> None:
        """End the loaders' threads."""
        self._loader.close()
        self._text_encoder.close()


def spread(steps: int, count: int) -> list[int]:
    """About `count` bounds from 0 to `steps`, closer together at the start, where it matters."""
    return sorted({round(steps * (part / (count - 1)) ** 1.5) for part in range(count)})
