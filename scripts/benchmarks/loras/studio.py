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
from swiftdiffusion.denoising.branch import Branch, UNet
from swiftdiffusion.denoising.conditioning import Embedding, condition
from swiftdiffusion.denoising.loop import denoise
from swiftdiffusion.denoising.plan import make_plan
from swiftdiffusion.denoising.schedulers import load_scheduler_config
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.networks.vae_decoder import read_latent_extent
from swiftdiffusion.placement import Placement, choose_placement
from swiftdiffusion.request.request import LoraUse
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

Pictures = NDArray[np.uint8]
"""[n, height, width, 3]."""


class Studio:
    """Draws with one pipeline and the LoRAs of one folder; Euler's scheduler, guidance, no negative prompt."""

    def __init__(self, pipeline: Path, adapters: Path, steps: int, guidance_scale: float, size: int) -> None:
        """On the first GPU in fp16, else on the CPU in fp32. Pictures of `size` x `size` pixels."""
        self.steps, self._guidance_scale, self._size = steps, guidance_scale, size
        self.placement: Placement = choose_placement("auto", "auto", "MODEL", 0)
        encoder, decoder = load_unet(pipeline, self.placement.dtype)
        self._encoder = make_engine("auto", encoder, self.placement)
        self._decoder = make_engine("auto", decoder, self.placement)
        self._advance = make_engine("auto", Advance(), self.placement)
        self._plan = make_plan("EulerDiscreteScheduler", load_scheduler_config(pipeline), steps)
        self._patcher = Patcher({"unet": [self._encoder, self._decoder]}, self.placement)
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
        after each step with its number from 0 and the picture so far as latents [1, 4, h, w].
        """
        uses = [] if lora is None else [LoraUse(lora.name, lora.scale)]
        hidden, pooled, _ = self._text_encoder.encode(list(prompts), uses)
        place = self.placement
        pictures = []
        for seed, *parts in zip(seeds, hidden, pooled, strict=True):
            embedding = Embedding(*(part.to(place.device, place.dtype) for part in parts))
            pictures.append(self._draw_one(embedding, seed, lora, bound, watch))
        return np.stack(pictures)

    def _draw_one(
        self,
        embedding: Embedding,
        seed: int,
        lora: ScaledLora | None,
        bound: int,
        watch: Callable[[int, Tensor], None],
    ) -> Pictures:
        self._patcher.restore()

        def before_step(step: int) -> None:
            if lora is not None and step == bound:
                self._patcher.apply([lora])

        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((1, self._channels, self._latent_size, self._latent_size), generator=generator)
        latents = denoise(
            [
                Branch(
                    UNet(self._encoder, self._decoder),
                    condition([embedding.zeros(), embedding], self._size, self._size),
                    [],
                )
            ],
            self._advance,
            self._plan,
            noise.to(self.placement.device) * self._plan.noise_scale,
            self._guidance_scale,
            generator,
            before_step,
            lambda step: watch(step.number - 1, step.clean.clone()),
            Stopwatch(),
        )
        return np.asarray(self._vae_decoder.answer({"latents": latents.cpu().numpy()})["pixels"])

    def close(self) -> None:
        """End the loaders' threads."""
        self._loader.close()
        self._text_encoder.close()


def spread(steps: int, count: int) -> list[int]:
    """About `count` bounds from 0 to `steps`, closer together at the start, where it matters."""
    return sorted({round(steps * (part / (count - 1)) ** 1.5) for part in range(count)})
