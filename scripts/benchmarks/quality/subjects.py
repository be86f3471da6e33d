"""What is drawn: unseen scenes without add-ons, with a LoRA, and with a ControlNet."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.serving.systems import Request
from shapes.adapters import ADAPTERS
from shapes.captions import full_captions
from shapes.conditions import edges
from shapes.evaluate import rendered, requests, unseen_scenes
from shapes.judge import Request as Asked
from shapes.judge import judge
from shapes.style_statistics import STATISTICS

Picture = NDArray[np.uint8]
"""[128, 128, 3]."""

SETS = ("plain", "lora", "controlnet")
SEED, SIDE, GUIDANCE, LORA_SCALE = 78, 128, 3.0, 1.0


@dataclass(frozen=True)
class Subject:
    """One picture to draw, and how to judge it."""

    request: Request
    asked: Asked
    style: str = ""  # of a LoRA

    def is_right(self, picture: Picture) -> bool:
        """Whether the picture shows the LoRA's style, or without one just what was asked for."""
        return STATISTICS[self.style].shows_style(picture) if self.style else judge(picture, self.asked).right


def draw_subjects(kind: str, count: int, steps: int) -> list[Subject]:
    """So many subjects of a kind of `SETS`, the same each time; LoRAs are taken in turn."""
    scenes = unseen_scenes(count, SEED)
    captions, asked, pictures = full_captions(scenes), list(requests(scenes)), rendered(scenes)
    styles = list(ADAPTERS)
    subjects = []
    for number in range(len(captions)):
        request: Request = {
            "prompt": [captions[number]],
            "seed": [SEED * 100_000 + number],
            "steps": [steps],
            "guidance_scale": [GUIDANCE],
            "width": [SIDE],
            "height": [SIDE],
            "output_format": ["raw"],
        }
        style = styles[number % len(styles)] if kind == "lora" else ""
        if style:
            request |= {"loras": [style], "lora_scales": [LORA_SCALE]}
        if kind == "controlnet":
            request |= {"controlnets": ["edges"], "control_images": [_encode(edges(Image.fromarray(pictures[number])))]}
        subjects.append(Subject(request, asked[number], style))
    return subjects


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
