"""What one LoRA adds to a request of SDXL's size: loading beside the first steps, patching between two, restoring."""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sdxl.architecture import build_scheduler
from sdxl.loras import build_lora, save_lora
from sdxl.networks import build_unet
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
from swiftdiffusion.placement import Placement

STEPS, SIZE, BOUND, TIMEOUT_S = 30, 1024, 5, 60.0
GUIDANCE = 5.0
LORAS = 6  # more than the patches that a patcher remembers


class SdxlLane:
    """SDXL's UNet with random weights on the GPU, and LoRA files of rank 64 on the local disk."""

    def __init__(self, folder: Path, loras: int, pristine_on_host: bool = False) -> None:
        """Write so many files `lora0`, … of 186 MB into `folder`."""
        for seed in range(loras):
            save_lora(build_lora(64, torch.float16, seed), folder / f"lora{seed}.safetensors")
        self.folder = folder
        self._placement = Placement(torch.device("cuda:0"), torch.float16)
        unet = build_unet(torch.float16, "cuda:0")
        targets = Targets({"unet": {name: tuple(weight.shape) for name, weight in unet.named_parameters()}})
        encoder, decoder = UNetEncoder(unet), UNetDecoder(unet)
        self._encoder = make_engine("auto", encoder, self._placement)
        self._decoder = make_engine("auto", decoder, self._placement)
        self._advance = make_engine("auto", Advance(), self._placement)
        self._plan = make_plan("EulerDiscreteScheduler", build_scheduler().config, STEPS)
        self.patcher = Patcher({"unet": [self._encoder, self._decoder]}, self._placement, pristine_on_host)
        self.loader = LoraLoader(FolderStore(folder), targets, ("unet",), "cuda:0", cache_bytes=0)
        width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        self._prompts = [
            Embedding(self._draw(77, unet.config.cross_attention_dim), self._draw(width)) for _ in range(2)
        ]

    def run(self, lora: str | None) -> dict[str, Any]:
        """One request's denoising, from the file's name to the last step, with the restoring of the one before.

        Returns milliseconds in all, and what `BoundedLoras.describe` tells.
        """
        stopwatch = Stopwatch()
        torch.cuda.synchronize()
        start = time.perf_counter()
        found = [] if lora is None else [self.loader.inspect(lora)]
        loras = BoundedLoras(self.loader, self.patcher, found, [0.8] * len(found), BOUND, TIMEOUT_S, lambda: None)
        with torch.inference_mode():
            latents = self._draw(1, 4, SIZE // 8, SIZE // 8).float() * self._plan.noise_scale
        denoise(
            [Branch(UNet(self._encoder, self._decoder), self._condition(), [])],
            self._advance,
            self._plan,
            latents,
            GUIDANCE,
            torch.Generator(),
            before_step=loras.settle,
            after_step=lambda step: None,
            stopwatch=stopwatch,
        )
        torch.cuda.synchronize()
        return {"ms": 1e3 * (time.perf_counter() - start), "loras": loras.describe()}

    def _condition(self) -> Conditioning:
        """New tensors, as each request has them."""
        return condition([Embedding(one.hidden.clone(), one.pooled.clone()) for one in self._prompts], SIZE, SIZE)

    def _draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=self._placement.dtype, device=self._placement.device)


def measure_latency(repeats: int, tell: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Median milliseconds of a request without a LoRA, with one in no cache but the kernel's, and in none at all.

    The first request with a LoRA, which copies the pristine weights, is told apart. Each with a LoRA finds another one
    in the weights, so its time has the restoring too; none comes from the host cache.
    """
    with tempfile.TemporaryDirectory(prefix="loras-") as scratch:
        tell("writing LoRA files and building SDXL's UNet")
        lane = SdxlLane(Path(scratch), LORAS)
        names = (f"lora{number % LORAS}" for number in itertools.count())
        try:
            tell("warming up")
            lane.run(None)
            first = lane.run(next(names))
            plain, warm, cold = [], [], []
            for number in range(repeats):
                tell(f"request {number + 1} of {repeats}")
                lane.run(next(names))
                warm.append(lane.run(next(names)))
                lane.run(next(names))
                drop_from_page_cache(lane.folder)
                cold.append(lane.run(next(names)))
                lane.run(None)  # so that the next one has nothing to restore
                plain.append(lane.run(None)["ms"])
        finally:
            lane.loader.close()
    base = statistics.median(plain)
    return {
        "steps": STEPS,
        "bound": BOUND,
        "plain_ms": round(base, 2),
        "first_with_a_lora_ms": round(first["ms"], 2),
        "warm": _summarise(warm, base),
        "cold": _summarise(cold, base),
    }


def drop_from_page_cache(folder: Path) -> None:
    """Have the next read come from the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _summarise(runs: list[dict[str, Any]], plain: float) -> dict[str, Any]:
    ms = statistics.median(run["ms"] for run in runs)
    uses = [run["loras"][0] for run in runs]
    return {
        "ms": round(ms, 2),
        "added_percent": round(100 * (ms / plain - 1), 3),
        "step": sorted(use["step"] for use in uses),
        "load_ms": round(1e3 * statistics.median(use["load_seconds"] for use in uses), 2),
    }
