"""What a request may ask for, and what it gets where it does not ask."""

from __future__ import annotations

from dataclasses import dataclass

from swiftdiffusion.configuration import require_range
from swiftdiffusion.denoising.schedulers import SCHEDULERS
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.request.images import OUTPUT_FORMATS
from swiftdiffusion.request.request import LORAS_MOST

PROMPT_MOST = 2500  # characters: two prompts of 12 bytes for each are what a JPEG's 64 kB of EXIF hold
SIZE_MOST = 16_376  # pixels on a side: a WebP file's are at most 16,383


@dataclass(frozen=True)
class Limits:
    """Defaults (the plain names) and bounds; from the model's configuration."""

    steps: int = 30
    steps_max: int = 100
    guidance_scale: float = 5.0
    guidance_scale_max: float = 50.0
    width: int = 1024
    height: int = 1024
    size_min: int = 256
    size_max: int = 2048
    scheduler: str = "EulerDiscreteScheduler"
    loras_max: int = 8
    lora_bound: int = 5
    controlnets_max: int = 4
    scale_max: float = 10.0  # of a LoRA or ControlNet, by absolute value
    output_format: str = "png"
    preview_every: int = 5
    prompt_max: int = 2000  # characters
    image_bytes_max: int = 32_000_000

    def __post_init__(self) -> None:
        require_range("steps", self.steps, 1, self.steps_max)
        require_range("guidance_scale_max", self.guidance_scale_max, 0, 1000)
        require_range("guidance_scale", self.guidance_scale, 0, self.guidance_scale_max)
        require_range("size_max", self.size_max, 8, SIZE_MOST)
        require_range("size_min", self.size_min, 8, self.size_max)
        for key, size in (("width", self.width), ("height", self.height)):
            require_range(key, size, self.size_min, self.size_max)
            if size % 8:
                raise InvalidArgument(f"parameter {key!r} is {size}; it must be a multiple of 8")
        require_range("loras_max", self.loras_max, 0, LORAS_MOST)
        require_range("controlnets_max", self.controlnets_max, 1, 64)
        require_range("lora_bound", self.lora_bound, 0, self.steps_max)
        require_range("scale_max", self.scale_max, 0, 1000)
        require_range("prompt_max", self.prompt_max, 1, PROMPT_MOST)
        require_range("image_bytes_max", self.image_bytes_max, 1, 1_000_000_000)
        require_range("preview_every", self.preview_every, 0, self.steps_max)
        for key, value, allowed in (
            ("scheduler", self.scheduler, SCHEDULERS),
            ("output_format", self.output_format, OUTPUT_FORMATS),
        ):
            if value not in allowed:
                raise InvalidArgument(f"parameter {key!r} is {value!r}; allowed: {', '.join(allowed)}")
