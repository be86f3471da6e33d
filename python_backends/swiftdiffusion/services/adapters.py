"""The list of LoRAs, for clients that offer a choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.adapters.description import describe
from swiftdiffusion.adapters.opening import StoreConfiguration, open_store
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.configuration import require_range
from swiftdiffusion.errors import SwiftDiffusionError
from swiftdiffusion.request.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class AdapterListConfiguration(StoreConfiguration):
    """The `adapters` backend's parameters."""

    pipeline: Path  # a diffusers folder; a LoRA is described by how it fits
    described_max: int = 100  # in one answer: each costs the reading of a header

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("described_max", self.described_max, 1, 100_000)


class AdapterListService:
    """Reads the store anew for each request."""

    def __init__(self, configuration: AdapterListConfiguration) -> None:
        self._most = configuration.described_max
        self._store = open_store(configuration)
        self._targets = Targets.read(configuration.pipeline)

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Name all LoRAs and describe some: those that are asked for, else the first from `start` on.

        Inputs and outputs as in `contracts.ADAPTERS`. One that cannot be described has an ``error`` instead.

        Raises:
            InvalidArgument, Unavailable: a number out of range; a store that cannot be listed.
        """
        read = Inputs(inputs)
        names = self._store.names()
        start = read.integer("start", 0, 0, 2**31 - 1)
        count = read.integer("count", self._most, 0, self._most)
        chosen = (read.texts("names") or names[start:])[:count]
        described = [json.dumps(self._describe(name), ensure_ascii=False).encode(errors="replace") for name in chosen]
        return {
            "names": np.array([name.encode() for name in names], object),
            "adapters": np.array(described, object),
        }

    def close(self) -> None:
        """Ask the store for nothing more."""
        self._store.close()

    def _describe(self, name: str) -> dict[str, Any]:
        try:
            return describe(self._store, name, self._targets)
        except SwiftDiffusionError as error:
            return {"name": name, "error": str(error)}
