"""A patch that is ready to be enqueued, and the engines that it is for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from swiftdiffusion.adapters.copy_stream import Mark
from swiftdiffusion_operators.lora_patch import Patch


class LiveEngine(Protocol):
    """The part of an engine that patching needs."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the live tensors by name, which may be written."""

    def weights_changed(self, names: Collection[str]) -> None:
        """Be told that these were; what runs next sees them."""


class Slot(NamedTuple):
    """One parameter of one engine, under the engine's own name for it and under the one that LoRAs' layers have."""

    engine: LiveEngine
    name: str
    network: str
    parameter: str  # canonical


class PreparedPatch:
    """New values for some parameters, computed when it is run."""

    def __init__(self, slots: Iterable[Slot], patches: Sequence[Patch], marks: Sequence[Mark]) -> None:
        """Args: the parameters, what writes them on each device, and when that can begin there."""
        self.slots = frozenset(slots)
        self._patches = patches
        self._marks = marks

    @classmethod
    def together(cls, parts: Sequence[PreparedPatch]) -> PreparedPatch:
        """Several that share no parameter, as one."""
        if len(parts) == 1:
            return parts[0]
        slots = frozenset[Slot]().union(*(part.slots for part in parts))
        return cls(slots, [p for part in parts for p in part._patches], [m for part in parts for m in part._marks])

    def run(self) -> None:
        """Enqueue on each device's current stream."""
        for mark in self._marks:
            mark.wait_on_device()
        for patch in self._patches:
            patch.run()
