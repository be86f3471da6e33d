"""How late one LoRA may come: measured on prompts, and the bound that keeps its pictures what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.lines import draw_lines
from benchmarks.loras.studio import Studio
from benchmarks.similarity import measure_cosine, measure_ssim
from swiftdiffusion.adapters.profile import AdapterProfile


@dataclass(frozen=True)
class Lateness:
    """What was measured of one LoRA."""

    name: str
    steps: int
    latents: list[float]  # after each step, cosine similarity of the pictures so far with the LoRA and without
    pictures: dict[int, float] = field(default_factory=dict)  # by bound: SSIM to the picture that had it from the start

    def choose_bound(self, threshold: float) -> int:
        """The largest bound up to which every picture's similarity is at least `threshold`."""
        chosen = 0
        for bound, similarity in sorted(self.pictures.items()):
            if similarity < threshold:
                break
            chosen = bound
        return min(chosen, self.steps - 1)

    def to_profile(self, threshold: float) -> AdapterProfile:
        """As it is stored beside the LoRA."""
        similarities = {str(bound): round(value, 4) for bound, value in self.pictures.items()}
        return AdapterProfile(self.choose_bound(threshold), self.steps, threshold, similarities)

    def draw(self, threshold: float) -> Image.Image:
        """A plot of both, with a line at the chosen bound."""
        series = {
            "pictures, by bound": [(float(bound), value) for bound, value in sorted(self.pictures.items())],
            "latents, by step": [(float(step), value) for step, value in enumerate(self.latents, start=1)],
            "threshold": [(0.0, threshold), (float(self.steps), threshold)],
        }
        low = min(0.5, *self.pictures.values(), *self.latents)
        bound = self.choose_bound(threshold)
        title = f"{self.name}: similarity by step; the bound is {bound} of {self.steps}"
        return draw_lines(title, "step", series, (np.floor(low * 10) / 10, 1.0), mark=bound)


def profile_lora(studio: Studio, name: str, prompts: Sequence[str], bounds: Sequence[int], seed: int) -> Lateness:
    """Draw all prompts with the LoRA from each of `bounds` on, the first of which must be 0."""
    seeds = [seed + index for index in range(len(prompts))]
    lora = studio.load(name)
    with_it: list[list[Tensor]] = [[] for _ in range(studio.steps)]
    without: list[list[Tensor]] = [[] for _ in range(studio.steps)]
    first = studio.draw(prompts, seeds, lora, 0, lambda step, latents: with_it[step].append(latents))
    studio.draw(prompts, seeds, None, studio.steps, lambda step, latents: without[step].append(latents))
    latents = [round(measure_cosine(*map(torch.cat, pair)), 4) for pair in zip(with_it, without, strict=True)]
    lateness = Lateness(name, studio.steps, latents)
    for bound in bounds:
        drawn = first if bound == 0 else studio.draw(prompts, seeds, lora, bound)
        lateness.pictures[bound] = float(np.mean([measure_ssim(*pair) for pair in zip(drawn, first, strict=True)]))
    return lateness
