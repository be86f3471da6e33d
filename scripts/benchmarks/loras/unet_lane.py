"""A UNet with its loader and patcher in this process, and large LoRA files on the local disk."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sdxl.architecture import build_scheduler
from sdxl.loras import ATTENTION_PROJECTIONS, build_lora
from sdxl.networks import build_unet
from shapes.checkpoint import pipeline_folder
from swiftdiffusion.adapters.bounded import BoundedLoras
from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.denoising.advance import Advance
from swiftdiffusion.denoising.branch import Branch, UNet
from swiftdiffusion.denoising.conditioning import Conditioning, Embedding, condition
from swiftdiffusion.denoising.loop import denoise
from swiftdiffusion.denoising.plan import make_plan
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.unet import UNetDecoder, UNetEncoder
from swiftdiffusion.placement import Placement, choose_placement

BOUND, TIMEOUT_S, GUIDANCE = 5, 60.0, 5.0
LORAS = 6  # more than the patches that a patcher remembers, and than the host cache has room for
SMALL_RANK = 2048  # makes files of 44 MB for `shapes`


@dataclass(frozen=True)
class Subject:
    """Which UNet, the pictures' size in pixels and in latents, and LoRAs for it."""

    name: str
    unet: Any  # diffusers' UNet2DConditionModel
    size: int
    latents: int
    loras: Iterator[Mapping[str, Tensor]]


def choose_subject(placement: Placement) -> Subject:
    """SDXL with random weights on a GPU, else `shapes`."""
    if placement.device.type == "cuda":
        files = (build_lora(64, torch.float16, seed) for seed in range(LORAS))
        return Subject("sdxl", build_unet(placement.dtype, placement.device), 1024, 128, files)
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(pipeline_folder() / "unet", torch_dtype=placement.dtype)
    return Subject("shapes", unet, 128, 32, (draw_lora(unet, SMALL_RANK, seed) for seed in range(LORAS)))


def draw_lora(unet: nn.Module, rank: int, seed: int) -> dict[str, Tensor]:
    """A random LoRA in fp16 for every attention projection of a UNet, weak enough to change little."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(ATTENTION_PROJECTIONS):
            for part, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
                noise = torch.randn(shape, generator=generator) / (10 * rank)
                tensors[f"unet.{name}.lora_{part}.weight"] = noise.half()
    return tensors


class UNetLane:
    """Denoises, request by request, as a lane does."""

    def __init__(self, folder: Path, steps: int) -> None:
        """Write the LoRAs `lora0`, … into `folder`; the host cache is as large as a lane's own."""
        self._placement = choose_placement("auto", "auto", "MODEL", 0)
        subject = choose_subject(self._placement)
        for number, tensors in enumerate(subject.loras):
            save_file(dict(tensors), folder / f"lora{number}.safetensors")
        self.folder, self.subject, self.steps = folder, subject.name, steps
        self._size, self._latents = subject.size, subject.latents
        self.names = [f"lora{number}" for number in range(LORAS)]
        self.lora_bytes = (folder / "lora0.safetensors").stat().st_size
        unet = subject.unet
        targets = Targets({"unet": {name: tuple(weight.shape) for name, weight in unet.named_parameters()}})
        self._config = unet.config
        self._encoder = make_engine("auto", UNetEncoder(unet), self._placement)
        self._decoder = make_engine("auto", UNetDecoder(unet), self._placement)
        self._advance = make_engine("auto", Advance(), self._placement)
        self._plan = make_plan("EulerDiscreteScheduler", build_scheduler().config, steps).on(self._placement.device)
        self.patcher = Patcher({"unet": [self._encoder, self._decoder]}, [self._placement])
        cache_bytes = (LORAS - 1) * self.lora_bytes  # of SDXL's about the 1024 MB that a lane has by default
        device = self._placement.device
        self.loader = LoraLoader(FolderStore(folder), targets, ("unet",), device, cache_bytes)
        width = self._config.projection_class_embeddings_input_dim - 6 * self._config.addition_time_embed_dim
        self._prompts = [Embedding(self._draw(77, self._config.cross_attention_dim), self._draw(width)) for _ in "np"]

    def run(self, lora: str | None) -> dict[str, Any]:
        """One request's denoising, from the file's name to the last step, with the restoring of the one before.

        Returns milliseconds in all, and what `BoundedLoras.describe` tells.
        """
        self._finish()
        start = time.perf_counter()
        found = [] if lora is None else [self.loader.inspect(lora)]
        loras = BoundedLoras(self.loader, self.patcher, found, [0.8] * len(found), BOUND, TIMEOUT_S, lambda: None)
        with torch.inference_mode():
            noise = self._draw(1, self._config.in_channels, self._latents, self._latents).float()
        latents = noise * self._plan.noise_scale
        denoise(
            [Branch(UNet(self._encoder, self._decoder), self._condition(), [])],
            self._advance,
            self._plan,
            latents,
            GUIDANCE,
            torch.Generator(),
            before_step=loras.settle,
            after_step=lambda step: None,
            stopwatch=Stopwatch(),
        )
        self._finish()
        return {"ms": 1e3 * (time.perf_counter() - start), "loras": loras.describe()}

    def renew_files(self) -> None:
        """Make every file one that the loader has not seen: nothing that it remembers is of use."""
        for path in self.folder.iterdir():
            path.touch()

    def drop_from_page_cache(self) -> None:
        """Have the next read of every file come from the disk."""
        for path in self.folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def _finish(self) -> None:
        if self._placement.device.type == "cuda":
            torch.cuda.synchronize()

    def _condition(self) -> Conditioning:
        """New tensors, as each request has them."""
        parts = [Embedding(one.hidden.clone(), one.pooled.clone()) for one in self._prompts]
        return condition(parts, self._size, self._size)

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, dtype=self._placement.dtype, device=self._placement.device)


@contextmanager
def open_lane(steps: int) -> Iterator[UNetLane]:
    """A lane with files in a folder of its own, on the disk that temporary files lie on."""
    with tempfile.TemporaryDirectory(prefix="loras-") as folder:
        lane = UNetLane(Path(folder), steps)
        try:
            yield lane
        finally:
            lane.loader.close()
