"""What a LoRA's lateness costs the picture, on `shapes`: does its style show, and is it like the one in time?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
BOUNDS = (0, 1, 2, 3, 5, 8, 12, 16, 22, 30)
FIGURES = ("styled", "ssim")

Table = Mapping[str, Mapping[int, Mapping[str, float]]]
"""LoRA ▶ bound ▶ figure."""


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


def tabulate(quality: Mapping[str, Mapping[str, float]]) -> Table:
    """The rows by LoRA and rising bound, and as `mean` over the LoRAs those that all of them have."""
    table: dict[str, dict[int, Mapping[str, float]]] = {}
    for row, figures in quality.items():
        name, bound = row.split()
        table.setdefault(name, {})[int(bound)] = figures
    table = {name: dict(sorted(rows.items())) for name, rows in table.items()}
    common = sorted(set.intersection(*(set(rows) for rows in table.values())) if len(table) == len(ADAPTERS) else ())
    table["mean"] = {
        bound: {figure: _mean([rows[bound][figure] for rows in table.values()]) for figure in FIGURES}
        for bound in common
    }
    return table


def count_lost_points(quality: Mapping[str, Mapping[str, float]], bound: int) -> float | None:
    """Percentage points of the judge that `bound` loses against bound 0; None where one of them was not measured."""
    mean = tabulate(quality)["mean"]
    return round(mean[0]["styled"] - mean[bound]["styled"], 3) if {0, bound} <= mean.keys() else None


def _judge(name: str, drawn: Pictures, first: Pictures) -> dict[str, float]:
    styled = [STATISTICS[name].shows_style(picture) for picture in drawn]
    alike = [measure_ssim(*pair) for pair in zip(drawn, first, strict=True)]
    return {"styled": round(100 * float(np.mean(styled)), 3), "ssim": round(float(np.mean(alike)), 4)}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
