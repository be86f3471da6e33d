"""The denoising loop's ends of its calls to the other models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.denoising.conditioning import Embedding
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.request.request import LoraUse
from swiftdiffusion.services.contracts import TEXT_ENCODER, VAE_DECODER
from swiftdiffusion.signature import Arrays, Signature
from swiftdiffusion.waiting import wait_for

Answer = Future[dict[str, NDArray[Any]]]
"""A model's outputs by name, later; errors come as this project's own."""
# (model, its contract, inputs) -> its answer
Call = Callable[[str, Signature, Arrays], Answer]


class TextEncoderClient:
    """Encodes prompts; the service remembers those it has seen."""

    def __init__(self, call: Call, model: str, dtype: torch.dtype, timeout_s: float) -> None:
        self._call, self._model, self._dtype, self._timeout_s = call, model, dtype, timeout_s

    def begin(self, prompts: Sequence[str], loras: Sequence[LoraUse]) -> Answer:
        """Start to encode prompts, for `read`."""
        inputs: dict[str, NDArray[Any]] = {"prompts": _texts(prompts)}
        if loras:
            inputs["loras"] = _texts([lora.name for lora in loras])
            inputs["lora_scales"] = np.array([lora.scale for lora in loras], dtype=np.float32)
        return self._call(self._model, TEXT_ENCODER, inputs)

    def read(self, answer: Answer, stopwatch: Stopwatch) -> list[tuple[Embedding, bool]]:
        """Each prompt's embedding in the UNet's number type, on the host, and if it came from the service's cache."""
        outputs = wait_for(answer, self._model, self._timeout_s)
        stopwatch.note("text_encoder", self._model, *outputs["ran"])
        hidden, pooled = (torch.from_numpy(outputs[name]).to(self._dtype) for name in ("hidden", "pooled"))
        embeddings = [Embedding(*pair) for pair in zip(hidden, pooled, strict=True)]
        return list(zip(embeddings, outputs["cached"].tolist(), strict=True))


class VaeDecoderClient:
    """Turns latents into pixels."""

    def __init__(self, call: Call, model: str, timeout_s: float) -> None:
        self._call, self._model, self._timeout_s = call, model, timeout_s

    def begin(self, latents: Tensor, jpeg_quality: int = 0) -> Answer:
        """Start to decode [1, 4, h, w], once they are computed, for `read`; with a quality to a JPEG, if it can."""
        inputs = {"latents": to_array(latents), "jpeg_quality": np.array([jpeg_quality], np.int32)}
        return self._call(self._model, VAE_DECODER, inputs)

    def read(self, answer: Answer, stopwatch: Stopwatch) -> dict[str, NDArray[np.uint8]]:
        """`pixels` [height, width, 3], or `jpeg`, a file's bytes."""
        outputs = wait_for(answer, self._model, self._timeout_s)
        stopwatch.note("vae_decoder", self._model, *outputs.pop("ran"))
        return outputs


def _texts(texts: Sequence[str]) -> NDArray[np.object_]:
    return np.array([text.encode() for text in texts], dtype=np.object_)


def to_array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor as fp32 on the host, which is how it travels between models."""
    return tensor.float().contiguous().cpu().numpy()
