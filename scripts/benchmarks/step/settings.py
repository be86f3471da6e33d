"""What is measured, and how: the command line in the form that every process of the benchmark gets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

# by the names of the command line; `reference` runs too, but is no competitor
LABELS = {
    "eager": "diffusers, eager",
    "graph": "diffusers + graph",
    "compile": "torch.compile + graph",
    "ours": "SwiftDiffusion",
}
CAPTURED = ("graph", "compile")  # by hand: they take a GPU, and wait for no host
REFERENCE = "reference"
PARTS = {
    "unet": "UNet step",
    "unet_wordless": "UNet step, no negative prompt",
    "controlnet": "ControlNet step",
    "vae": "VAE decode",
    "image": "whole image",
}


class Size(NamedTuple):
    """A picture's size in pixels; written as in 768x1344, width first."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read what `str` writes; raises ValueError with what is allowed."""
        parts = text.split("x")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ValueError(f"size {text!r} is not WIDTHxHEIGHT, as in 768x1344")
        size = cls(*map(int, parts))
        if any(side % 32 or not 64 <= side <= 4096 for side in size):
            raise ValueError(f"size {text!r} has a side that is no multiple of 32 from 64 to 4096")
        return size


SIZES = {
    "sdxl": (Size(1024, 1024), Size(768, 1344), Size(512, 512)),
    "shapes": (Size(128, 128),),
}
"""The checkpoints that can be measured, and the sizes by default; bars are judged at the first size."""


@dataclass(frozen=True)
class Settings:
    """Shared by all systems."""

    checkpoint: str  # a key of SIZES
    device: str  # cpu or cuda
    sizes: tuple[Size, ...]
    repeats: int  # calls of each part
    steps: int  # in an image
    engine: str  # ours
    guidance_scale: float = 5.0
    seed: int = 0

    @property
    def dtype(self) -> str:
        """Of weights and activations, as `swiftdiffusion.placement.DTYPES` names it."""
        return "fp16" if self.device == "cuda" else "fp32"

    @property
    def reference_dtype(self) -> str:
        """One that is finer, in which the reference computes with the same weights."""
        return "fp32" if self.device == "cuda" else "fp64"


@dataclass(frozen=True)
class Job:
    """What one process does: one system at some sizes."""

    settings: Settings
    system: str  # a key of LABELS, or REFERENCE
    sizes: tuple[Size, ...]
    reference: str  # the folder that the reference's process writes and the others read
    gpu: int = 0  # which of those that are there
    only_first_image: bool = False
    started: float = 0.0  # time.monotonic() when the process was started

    def to_json(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        settings = values.pop("settings")
        settings["sizes"] = tuple(Size(*size) for size in settings["sizes"])
        values["sizes"] = tuple(Size(*size) for size in values["sizes"])
        return cls(settings=Settings(**settings), **values)
