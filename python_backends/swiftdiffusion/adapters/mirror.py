"""An engine whose twin on another GPU is to have the same weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from swiftdiffusion.adapters.prepared import LiveEngine


class Mirror:
    """For a patcher: the engine's weights, copied to the twin when they were written."""

    def __init__(self, engine: LiveEngine, twin: LiveEngine) -> None:
        """Args: two engines of one network."""
        self._engine, self._twin = engine, twin

    def parameters(self) -> Mapping[str, Tensor]:
        """The engine's."""
        return self._engine.parameters()

    @torch.inference_mode()
    def weights_changed(self, names: Collection[str]) -> None:
        """Enqueue the copies, and tell both engines."""
        source, target = self._engine.parameters(), self._twin.parameters()
        for name in names:
            target[name].copy_(source[name], non_blocking=True)
        self._engine.weights_changed(names)
        self._twin.weights_changed(names)
