"""diffusers as its documentation writes it.

https://huggingface.co/docs/diffusers/api/pipelines/controlnet_sdxl and
https://huggingface.co/docs/diffusers/tutorials/using_peft_for_inference
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.utils import logging
from numpy.typing import NDArray
from PIL import Image

from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.references import Images, begin_decoding
from swiftdiffusion.request.request import LoraUse, PictureRequest

SUFFIX = ".safetensors"


class StockDiffusers:
    """One pipeline on one device; every ControlNet stays in memory, LoRAs come and go with their request."""

    def __init__(self, folder: Path, controlnets: Mapping[str, Path], adapters: Path, place: Placement) -> None:
        """Args: a diffusers folder, ControlNets' folders by name, the folder of LoRAs, device and number type."""
        logging.set_verbosity_error()  # else each request is told which networks its LoRA does not change
        logging.disable_progress_bar()
        self._adapters = adapters
        self.base = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=place.dtype, add_watermarker=False)
        self.base.scheduler = EulerDiscreteScheduler.from_config(self.base.scheduler.config)
        self.base.to(place.device)
        self.controlnets = {
            name: ControlNetModel.from_pretrained(path, torch_dtype=place.dtype).to(place.device)
            for name, path in controlnets.items()
        }

    @property
    def controlnet_names(self) -> list[str]:
        """Those that requests may name."""
        return list(self.controlnets)

    def draw(
        self, request: PictureRequest, stopwatch: Stopwatch, noise: torch.Tensor | None = None
    ) -> NDArray[np.uint8]:
        """Draw a request's picture, uint8 [height, width, 3].

        From its seed the pipeline draws `noise` [1, 4, h, w] itself, other values for each number type.
        """
        with begin_decoding(use.reference for use in request.controls) as images:
            with stopwatch("loras"):
                self.load_loras(request.loras)
            try:
                with stopwatch("pipeline"):
                    pipeline, control = self._control(request, images)
                    picture = pipeline(
                        request.prompt,
                        negative_prompt=request.negative_prompt,
                        num_inference_steps=request.steps,
                        guidance_scale=request.guidance_scale,
                        width=request.width,
                        height=request.height,
                        generator=torch.Generator("cpu").manual_seed(request.seed),
                        latents=noise,
                        **control,
                    ).images[0]
            finally:
                if request.loras:
                    with stopwatch("loras"):
                        self.unload_loras()
        return np.asarray(picture)

    def load_loras(self, uses: Sequence[LoraUse]) -> None:
        """Put a request's LoRAs into the pipeline."""
        for use in uses:
            self.base.load_lora_weights(self._adapters, weight_name=use.name + SUFFIX, adapter_name=use.name)
        if uses:
            self.base.set_adapters([use.name for use in uses], [use.scale for use in uses])

    def unload_loras(self) -> None:
        """Take them out again."""
        self.base.unload_lora_weights()

    def _control(self, request: PictureRequest, images: Images) -> tuple[Any, dict[str, Any]]:
        """The pipeline for a request's number of ControlNets, and what it takes for them."""
        inputs: dict[str, Any] = {}
        if not request.controls:
            pipeline = self.base
        else:
            nets = [self.controlnets[use.name] for use in request.controls]
            lists: dict[str, list[Any]] = {
                "image": [Image.fromarray(images[use.reference].result()) for use in request.controls],
                "controlnet_conditioning_scale": [use.scale for use in request.controls],
                "control_guidance_start": [use.start for use in request.controls],
                "control_guidance_end": [use.end for use in request.controls],
            }
            parts = {k: v for k, v in self.base.components.items() if k not in ("image_encoder", "feature_extractor")}
            one = len(nets) == 1
            pipeline = StableDiffusionXLControlNetPipeline(
                **parts, controlnet=nets[0] if one else nets, add_watermarker=False
            )
            inputs.update({name: values[0] for name, values in lists.items()} if one else lists)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline, inputs
