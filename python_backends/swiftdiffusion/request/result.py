"""What drawing yields: a note after each step, and the picture."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.request.request import PictureRequest


@dataclass(frozen=True)
class Progress:
    """One finished step."""

    step: int  # from 1
    steps: int
    seconds: float  # since the work on the request began
    preview: bytes  # a small JPEG, or nothing

    _HEAD: ClassVar[struct.Struct] = struct.Struct("<IId")

    def pack(self) -> bytes:
        """As one message between processes."""
        return self._HEAD.pack(self.step, self.steps, self.seconds) + self.preview

    @classmethod
    def unpack(cls, message: bytes) -> Progress:
        """Undo `pack`."""
        step, steps, seconds = cls._HEAD.unpack_from(message)
        return cls(step, steps, seconds, message[cls._HEAD.size :])


@dataclass(frozen=True)
class Picture:
    """A finished picture."""

    request: PictureRequest
    decoded: Mapping[str, NDArray[np.uint8]]  # `pixels` [height, width, 3], or `jpeg`, a file without the request in it
    loras: list[dict[str, Any]]  # name, scale, and the first step (from 0) that each took part in
    controlnets: list[dict[str, Any]]  # name, model, and how its tensors travelled
    prompt_cached: bool  # whether every prompt was remembered
    seconds: dict[str, float]  # by stage
    spans: list[dict[str, Any]] | None = None  # when each part ran, where that was asked for

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8 [height, width, 3], where they have not been encoded yet."""
        return self.decoded["pixels"]

    def describe(self) -> dict[str, Any]:
        """The response's ``info``, fit for JSON."""
        info = {
            "request": self.request.describe(),
            "loras": self.loras,
            "controlnets": self.controlnets,
            "prompt_cached": self.prompt_cached,
            "seconds": self.seconds,
        }
        if self.request.output_format == "jpeg":
            info["jpeg_encoder"] = "gpu" if "jpeg" in self.decoded else "host"
        return info if self.spans is None else {**info, "spans": self.spans}
