"""From a finished picture to the response's outputs."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.request.images import ENCODERS, finish_jpeg
from swiftdiffusion.request.result import Picture, Progress


def encode_picture(picture: Picture) -> dict[str, NDArray[Any]]:
    """``info``, and what the request's format asks for: ``pixels`` for raw, else ``image`` with the request inside."""
    request = picture.request
    info = {"info": _to_tensor(json.dumps(picture.describe(), ensure_ascii=False).encode())}
    if request.output_format == "raw":
        return {"pixels": picture.pixels, **info}
    if "jpeg" in picture.decoded:
        image = finish_jpeg(picture.decoded["jpeg"], request.describe())
    else:
        image = ENCODERS[request.output_format](picture.pixels, request.describe())
    return {"image": _to_tensor(base64.b64encode(image) if request.base64 else image), **info}


def encode_progress(progress: Progress, as_text: bool) -> dict[str, NDArray[Any]]:
    """The streaming model's outputs after a step; ``preview``, in base64 for `as_text`, only where there is one."""
    outputs: dict[str, NDArray[Any]] = {
        "step": np.array([progress.step], np.int32),
        "steps": np.array([progress.steps], np.int32),
        "seconds": np.array([progress.seconds], np.float32),
    }
    if progress.preview:
        outputs["preview"] = _to_tensor(base64.b64encode(progress.preview) if as_text else progress.preview)
    return outputs


def _to_tensor(data: bytes) -> NDArray[np.object_]:
    """One element of Triton's BYTES."""
    return np.array([data], dtype=np.object_)
