"""The text encoders' serving side: prompts to embeddings, each prompt once."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.opening import StoreConfiguration, open_store
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.targets import TEXT_ENCODERS, Targets
from swiftdiffusion.configuration import require_range
from swiftdiffusion.engines import make_engine
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.text_encoder import load_text_encoders, load_tokenizers, tokenize
from swiftdiffusion.placement import NetworkConfiguration, Placement
from swiftdiffusion.request.inputs import Inputs, require_count
from swiftdiffusion.request.request import LORAS_MOST, LoraUse


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfiguration(NetworkConfiguration, StoreConfiguration):
    """The `text_encoder` backend's parameters."""

    pipeline: Path
    prompts_max: int = 16  # in one request
    prompt_max: int = 2000  # characters
    loras_max: int = LORAS_MOST  # in one request, as many as any lane takes
    prompt_cache: int = 256  # prompts remembered, about 0.6 MB each for SDXL in fp32
    lora_cache_mb: int = 512
    lora_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        NetworkConfiguration.__post_init__(self)
        StoreConfiguration.__post_init__(self)
        require_range("prompts_max", self.prompts_max, 2, 1024)
        require_range("prompt_max", self.prompt_max, 1, 1_000_000)
        require_range("loras_max", self.loras_max, 0, LORAS_MOST)
        require_range("prompt_cache", self.prompt_cache, 0, 1_000_000)
        require_range("lora_cache_mb", self.lora_cache_mb, 0, 1_000_000)
        require_range("lora_timeout_s", self.lora_timeout_s, 0.1, 3600)


class TextEncoderService:
    """Both text encoders of a pipeline, with the LoRAs that a request asks for."""

    def __init__(self, configuration: TextEncoderConfiguration, placement: Placement) -> None:
        self._configuration = configuration
        self._placement = placement
        self._tokenizers = load_tokenizers(configuration.pipeline)
        self._engines = [
            make_engine(configuration.engine, encoder, placement, plan=configuration.plan(name))
            for name, encoder in zip(
                TEXT_ENCODERS, load_text_encoders(configuration.pipeline, placement.dtype), strict=True
            )
        ]
        engines = {name: [engine] for name, engine in zip(TEXT_ENCODERS, self._engines, strict=True)}
        self._patcher = Patcher(engines, [placement])
        self._loader = LoraLoader(
            open_store(configuration),
            Targets.read(configuration.pipeline),
            TEXT_ENCODERS,
            placement.device,
            configuration.lora_cache_mb * 2**20,
        )
        self._cache: OrderedDict[Hashable, tuple[Tensor, Tensor]] = OrderedDict()
        if placement.device.type == "cuda":
            self._run([""])  # compiles and captures

    def encode(self, prompts: Sequence[str], loras: Sequence[LoraUse]) -> tuple[Tensor, Tensor, list[bool]]:
        """Encode prompts as diffusers' SDXL pipeline does, with the LoRAs' text encoder parts in place.

        Returns:
            hidden [prompts, tokens, width of both encoders] and pooled [prompts, width of the second], fp32 on
            the host; for each prompt, whether it was remembered.

        Raises:
            InvalidArgument, NotFound, Unavailable: a LoRA that does not exist, fit or arrive; too many prompts or
                LoRAs, or too long a prompt.
        """
        if not 1 <= len(prompts) <= self._configuration.prompts_max:
            raise InvalidArgument(f"prompts has {len(prompts)} texts; allowed: 1 to {self._configuration.prompts_max}")
        for index, prompt in enumerate(prompts):
            if len(prompt) > self._configuration.prompt_max:
                raise InvalidArgument(
                    f"prompts[{index}] has {len(prompt)} characters; at most {self._configuration.prompt_max} are read"
                )
        require_count("loras", len(loras), self._configuration.loras_max)
        inspected = [(self._loader.inspect(lora.name), lora.scale) for lora in loras]
        acting = tuple((lora.file, scale) for lora, scale in inspected if lora.changes_prompts)
        keys = [(prompt, acting) for prompt in prompts]

        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._cache}
        found = {key: self._cache[key] for key in keys if key not in missing}
        if missing:
            pending = self._loader.begin([file for file, _ in acting], [scale for _, scale in acting])
            self._patcher.apply(pending.wait(self._configuration.lora_timeout_s))
            found.update(zip(missing, self._run(list(missing.values())), strict=True))
        for key in keys:
            self._remember(key, found[key])
        hidden, pooled = (torch.stack(parts) for parts in zip(*(found[key] for key in keys), strict=True))
        return hidden, pooled, [key not in missing for key in keys]

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Encode a request's prompts; inputs and outputs as in `contracts.TEXT_ENCODER`."""
        read = Inputs(inputs)
        prompts, names = read.texts("prompts"), read.texts("loras")
        scales = read.numbers_for("lora_scales", "loras", len(names), 1.0, -math.inf, math.inf)
        loras = [LoraUse(name, scale) for name, scale in zip(names, scales, strict=True)]
        start = time.perf_counter()
        hidden, pooled, cached = self.encode(prompts, loras)
        ran = np.array([start, time.perf_counter()])
        return {"hidden": hidden.numpy(), "pooled": pooled.numpy(), "cached": np.array(cached), "ran": ran}

    def close(self) -> None:
        """End the loader's threads."""
        self._loader.close()

    def _run(self, prompts: list[str]) -> list[tuple[Tensor, Tensor]]:
        """Encode one prompt after the other, as diffusers does: of one shape, which an engine captures once."""
        ids = [tokenize(tokenizer, prompts).to(self._placement.device) for tokenizer in self._tokenizers]
        encoded = []
        for own in zip(*(part.split(1) for part in ids), strict=True):
            (first, _), (second, pooled) = (engine(i) for engine, i in zip(self._engines, own, strict=True))
            encoded.append((torch.cat([first, second], dim=-1), pooled.clone()))  # the next one overwrites its result
        hidden, pooled = (torch.cat(parts).float().cpu() for parts in zip(*encoded, strict=True))
        return list(zip(hidden, pooled, strict=True))

    def _remember(self, key: Hashable, value: tuple[Tensor, Tensor]) -> None:
        self._cache[key] = value
        self._cache.move_to_end(key)
        while len(self._cache) > self._configuration.prompt_cache:
            self._cache.popitem(last=False)
