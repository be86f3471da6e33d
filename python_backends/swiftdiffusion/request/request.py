"""A picture request as the pipeline uses it: checked once, trusted from here on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swiftdiffusion.request.references import Reference

LORAS_MOST = 64  # in one request, whatever a model's `loras_max` says


@dataclass(frozen=True)
class LoraUse:
    """A LoRA of the adapter store and its scale."""

    name: str
    scale: float


@dataclass(frozen=True)
class ControlUse:
    """A served ControlNet, its reference image and when it acts."""

    name: str
    reference: Reference
    scale: float
    start: float
    end: float


@dataclass(frozen=True)
class PictureRequest:
    """One picture; units and meaning as in diffusers' SDXL pipeline."""

    prompt: str
    negative_prompt: str | None
    seed: int
    steps: int
    guidance_scale: float
    width: int
    height: int
    scheduler: str
    loras: tuple[LoraUse, ...]
    lora_bound: int
    controls: tuple[ControlUse, ...]
    output_format: str
    preview_every: int
    base64: bool
    trace: bool = False  # whether `info` tells when each part ran

    @property
    def guided(self) -> bool:
        """Whether the negative half is computed at all."""
        return self.guidance_scale > 1

    def describe(self) -> dict[str, Any]:
        """Every input that makes the picture, as it was resolved, under its name in the request; fit for JSON."""
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt or "",
            "seed": self.seed,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "width": self.width,
            "height": self.height,
            "scheduler": self.scheduler,
            "loras": [lora.name for lora in self.loras],
            "lora_scales": [lora.scale for lora in self.loras],
            "lora_bound": self.lora_bound,
            "controlnets": [control.name for control in self.controls],
            "control_scales": [control.scale for control in self.controls],
            "control_start": [control.start for control in self.controls],
            "control_end": [control.end for control in self.controls],
            "output_format": self.output_format,
        }
