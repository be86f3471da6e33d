"""What a LoRA's lateness costs the picture, on `shapes`: does its style show, and is it like the one in time?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.loras.studio import Pictures, Studio
from benchmarks.similarity import measure_ssim
from shapes.adapters import ADAPTERS
from shapes.captions import full_captions
from shapes.checkpoint import lora_file, pipeline_folder
from shapes.evaluate import unseen_scenes
from shapes.style_statistics import STATISTICS

STEPS, GUIDANCE, SIZE = 30, 3.0, 128
SEED = 78  # of prompts and noise, as `shapes.evaluate` has it
BOUNDS = (0, 1, 2, 3, 5, 8, 12, 16, 22, STEPS)


def measure_quality(
    prompts: int, bounds: Sequence[int] = BOUNDS, tell: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Draw each of so many unseen prompts with each of the four LoRAs, in the UNet from each of `bounds` on.

    Returns:
        ``loras[name][bound]``: `styled`, the percentage of pictures in which the judge sees the style, and `ssim`,
        the mean similarity to the same picture at the first bound. ``mean[bound]``: over the LoRAs.
    """
    captions = full_captions(unseen_scenes(prompts, SEED))
    seeds = [SEED * 100_000 + index for index in range(prompts)]
    studio = Studio(pipeline_folder(), lora_file("night").parent, STEPS, GUIDANCE, SIZE)
    loras: dict[str, dict[str, Any]] = {}
    try:
        for name in ADAPTERS:
            rows = {}
            first: Pictures | None = None
            for bound in bounds:
                tell(f"{name}, bound {bound}")
                drawn = studio.draw(captions, seeds, studio.load(name), bound)
                first = drawn if first is None else first
                rows[str(bound)] = _judge(name, drawn, first)
            loras[name] = rows
    finally:
        studio.close()
    mean = {
        str(bound): {
            figure: round(float(np.mean([rows[str(bound)][figure] for rows in loras.values()])), 3)
            for figure in ("styled", "ssim")
        }
        for bound in bounds
    }
    return {"prompts": prompts, "steps": STEPS, "guidance": GUIDANCE, "loras": loras, "mean": mean}


def count_lost_points(quality: dict[str, Any], bound: int) -> float | None:
    """Percentage points of the judge that `bound` loses against the first one; None where it was not measured."""
    mean = quality["mean"]
    first = next(iter(mean.values()))
    return None if str(bound) not in mean else round(first["styled"] - mean[str(bound)]["styled"], 3)


def _judge(name: str, drawn: Pictures, first: Pictures) -> dict[str, float]:
    styled = [STATISTICS[name].shows_style(picture) for picture in drawn]
    alike = [measure_ssim(*pair) for pair in zip(drawn, first, strict=True)]
    return {"styled": round(100 * float(np.mean(styled)), 3), "ssim": round(float(np.mean(alike)), 4)}
