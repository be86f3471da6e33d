"""What a LoRA's lateness costs the picture, on `shapes`: does its style show, and is it like the one in time?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from benchmarks.loras.rows import Rows
from benchmarks.loras.studio import Pictures, Studio
from benchmarks.similarity import measure_ssim
from shapes.adapters import ADAPTERS
from shapes.captions import full_captions
from shapes.checkpoint import lora_file, pipeline_folder
from shapes.evaluate import unseen_scenes
from shapes.style_statistics import STATISTICS

GUIDANCE, SIZE = 3.0, 128
SEED = 78  # of prompts and noise, as `shapes.evaluate` has it


def measure_quality(
    rows: Rows, prompts: int, bounds: Sequence[int], steps: int, tell: Callable[[str], None] = lambda text: None
) -> None:
    """Draw each of so many unseen prompts with each of the four LoRAs, in the UNet from each of `bounds` on.

    Each LoRA and bound makes a row of the part `quality`: `styled`, the percentage of pictures in which the judge sees
    the style, and `ssim`, the mean similarity to the same picture at the first bound.
    """
    wanted = {name: [bound for bound in bounds if not rows.has("quality", f"{name} {bound}")] for name in ADAPTERS}
    if not any(wanted.values()):
        return
    captions = full_captions(unseen_scenes(prompts, SEED))
    seeds = [SEED * 100_000 + index for index in range(prompts)]
    studio = Studio(pipeline_folder(), lora_file("night").parent, steps, GUIDANCE, SIZE)
    try:
        for name in (name for name, missing in wanted.items() if missing):
            lora = studio.load(name)
            tell(f"{name}, bound {bounds[0]}")
            first = studio.draw(captions, seeds, lora, bounds[0])
            for bound in wanted[name]:
                tell(f"{name}, bound {bound}")
                drawn = first if bound == bounds[0] else studio.draw(captions, seeds, lora, bound)
                rows.measure("quality", f"{name} {bound}", partial(_judge, name, drawn, first))
    finally:
        studio.close()


def _judge(name: str, drawn: Pictures, first: Pictures) -> dict[str, float]:
    styled = [STATISTICS[name].shows_style(picture) for picture in drawn]
    alike = [measure_ssim(*pair) for pair in zip(drawn, first, strict=True)]
    return {"styled": round(100 * float(np.mean(styled)), 3), "ssim": round(float(np.mean(alike)), 4)}
