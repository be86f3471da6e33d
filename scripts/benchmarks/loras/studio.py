"""A lane's parts in one process and without a server, to draw with a LoRA that comes exactly when it is told to."""

from __future__ import annotations

import json
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
from swiftdiffusion.denoising.conditioning import Conditioning, Embedding, condition
from swiftdiffusion.denoising.loop import Step, denoise
from swiftdiffusion.denoising.schedulers import load_scheduler_config, make_scheduler
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.placement import Placement, choose_placement
from swiftdiffusion.request.request import LoraUse
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

Pictures = NDArray[np.uint8]
"""[n, height, width, 3]."""


class _SeveralPictures(Conditioning):
    """For n pictures at a time, (negatives, prompts): the loop repeats their latents as it repeats one's."""

    @property
    def batch(self) -> int:
        """Of guidance."""
        return 2


class Studio:
    """Draws with one pipeline and the LoRAs of one folder; Euler's scheduler, guidance, no negative prompt."""

    def __init__(self, pipeline: Path, adapters: Path, steps: int, guidance_scale: float, size: int) -> None:
        """On the first GPU in fp16, else on the CPU in fp32. Pictures of `size` x `size` pixels."""
        self.steps, self._guidance_scale, self._size = steps, guidance_scale, size
        self.placement: Placement = choose_placement("auto", "auto", "MODEL", 0)
        encoder, decoder, config = load_unet(pipeline, self.placement.dtype)
        self._encoder = make_engine("auto", encoder, self.placement)
        self._decoder = make_engine("auto", decoder, self.placement)
        self._patcher = Patcher({"unet": [self._encoder, self._decoder]})
        self._loader = LoraLoader(FolderStore(adapters), Targets.read(pipeline), ("unet",), self.placement.device)
        text_encoder = TextEncoderConfiguration(pipeline=pipeline, adapters=Location(adapters), prompts_max=1024)
        self._text_encoder = TextEncoderService(text_encoder, self.placement)
        self._vae_decoder = VaeDecoderService(VaeDecoderConfiguration(pipeline), self.placement)
        self._scheduler_config = load_scheduler_config(pipeline)
        self._channels: int = config["in_channels"]
        vae_config = json.loads((pipeline / "vae" / "config.json").read_text())
        self._latent_size = size // 2 ** (len(vae_config["block_out_channels"]) - 1)

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
        after each step with its number from 0 and the pictures so far as latents [n, 4, h, w].
        """
        self._patcher.restore()

        def before_step(step: int) -> None:
            if lora is not None and step == bound:
                self._patcher.apply([lora])

        def after_step(step: Step) -> None:
            watch(step.number - 1, step.predict_clean())

        device = self.placement.device
        scheduler = make_scheduler("EulerDiscreteScheduler", self._scheduler_config, self.steps, device)
        latents = denoise(
            self._encoder,
            self._decoder,
            scheduler,
            self._draw_noise(seeds) * scheduler.init_noise_sigma,
            self._condition(prompts, lora),
            [],
            self._guidance_scale,
            torch.Generator(),
            before_step,
            after_step,
            Stopwatch(),
        )
        rows = latents.float().cpu().numpy()
        return np.stack([self._vae_decoder.answer({"latents": row[None]})["pixels"] for row in rows])

    def close(self) -> None:
        """End the loaders' threads."""
        self._loader.close()
        self._text_encoder.close()

    def _draw_noise(self, seeds: Sequence[int]) -> Tensor:
        shape = (1, self._channels, self._latent_size, self._latent_size)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.cat(noise).to(self.placement.device, self.placement.dtype)

    def _condition(self, prompts: Sequence[str], lora: ScaledLora | None) -> Conditioning:
        uses = [] if lora is None else [LoraUse(lora.name, lora.scale)]
        hidden, pooled, _ = self._text_encoder.encode(list(prompts), uses)
        embeddings = [
            Embedding(*(part.to(self.placement.device, self.placement.dtype) for part in parts))
            for parts in zip(hidden, pooled, strict=True)
        ]
        zeros = [embedding.zeros() for embedding in embeddings]
        stacked = condition([*zeros, *embeddings], self._size, self._size)
        return _SeveralPictures(stacked.prompt_embeds, stacked.pooled, stacked.time_ids)


def spread(steps: int, count: int) -> list[int]:
    """About `count` bounds from 0 to `steps`, closer together at the start, where it matters."""
    return sorted({round(steps * (part / (count - 1)) ** 1.5) for part in range(count)})
