"""A patch that is ready to be enqueued, and the engines that it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from swiftdiffusion.adapters.copy_stream import Mark
from swiftdiffusion_operators.lora_patch import Patch


class Refittable(Protocol):
    """The part of an engine that patching needs."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the live tensors by name."""

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """Copy new values into the named parameters, in place."""


@runtime_checkable
class LiveEngine(Refittable, Protocol):
    """An engine that runs on the very tensors that `parameters` gives: they can be written straight into."""

    def weights_changed(self) -> None:
        """Be told that they were."""


class Slot(NamedTuple):
    """One parameter of one engine, under the engine's own name for it."""

    engine: Refittable
    name: str


class PreparedPatch:
    """New values for some parameters, computed when it is run."""

    def __init__(self, results: Mapping[Slot, Tensor], patches: Sequence[Patch], marks: Sequence[Mark]) -> None:
        """Args: where each parameter's value will be, what computes them on each device, and when that can begin."""
        self.slots = frozenset(results)
        self._results = results
        self._patches = patches
        self._marks = marks

    def run(self) -> Mapping[Slot, Tensor]:
        """Enqueue on the current stream; the results are there for what is enqueued after."""
        for mark in self._marks:
            mark.wait_on_device()
        for patch in self._patches:
            patch.run()
        return self._results
