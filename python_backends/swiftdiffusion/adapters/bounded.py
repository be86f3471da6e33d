"""Bounded asynchronous loading: denoising starts without its LoRAs, and waits for them at the bound at the latest.

From SwiftDiffusion (arXiv 2407.02031, section 4.2): the first steps settle the composition, which a style LoRA
hardly changes, so they need not wait for its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.pending import PendingLoras


class BoundedLoras:
    """One request's LoRAs: each is patched in before the first step that starts after it has arrived."""

    def __init__(
        self, pending: PendingLoras, patcher: Patcher, bound: int, timeout_s: float, check: Callable[[], None]
    ) -> None:
        """Args: the loads under way, the weights' patcher, the last step (from 0) that may start without them all,
        how long that step waits, and what raises when the request is no longer wanted."""
        self._pending = pending
        self._patcher = patcher
        self._bound = bound
        self._timeout_s = timeout_s
        self._check = check
        self._steps: dict[str, int] = {}

    def settle(self, step: int) -> None:
        """Patch in what has arrived; at the bound, wait for the rest first.

        Raises:
            Unavailable: a LoRA is not there in time.
            SwiftDiffusionError: what loading one raised, or the check.
        """
        if step >= self._bound:
            self._pending.wait(self._timeout_s, self._check)
        arrived = self._pending.arrived
        if len(arrived) > len(self._steps):
            self._patcher.apply(arrived)
            for lora in arrived:
                self._steps.setdefault(lora.name, step)

    def describe(self) -> list[dict[str, Any]]:
        """For each LoRA: name, scale, the first step (from 0) that it took part in, seconds to arrive; for JSON."""
        uses = zip(self._pending.names, self._pending.scales, self._pending.seconds, strict=True)
        return [
            {
                "name": name,
                "scale": scale,
                "step": self._steps.get(name),
                "load_seconds": seconds and round(seconds, 6),
            }
            for name, scale, seconds in uses
        ]
