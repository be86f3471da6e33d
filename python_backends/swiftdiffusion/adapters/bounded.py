"""Bounded asynchronous loading: denoising starts without its LoRAs, and waits for them at the bound at the latest.

From SwiftDiffusion (arXiv 2407.02031, section 4.2): the first steps settle the composition, which a style LoRA
hardly changes, so they need not wait for its file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from swiftdiffusion.adapters.loading import FoundLora, LoraLoader
from swiftdiffusion.adapters.patching import Patcher


class BoundedLoras:
    """One request's LoRAs: each is patched in before the first step that starts after it has arrived."""

    def __init__(
        self,
        loader: LoraLoader,
        patcher: Patcher,
        found: Sequence[FoundLora],
        scales: Sequence[float],
        bound: int,
        timeout_s: float,
        check: Callable[[], None],
    ) -> None:
        """Start to load them, unless the weights hold just this set from the request before.

        Args:
            loader: reads files.
            patcher: the weights'.
            found: what `LoraLoader.inspect` gave for each.
            scales: as many.
            bound: the last step (from 0) that may start without them all.
            timeout_s: how long that step waits.
            check: raises when the request is no longer wanted.
        """
        self._loader = loader
        self._patcher = patcher
        self._bound = bound
        self._timeout_s = timeout_s
        self._check = check
        self._found = found
        self._scales = scales
        self._steps: dict[str, int] = {}
        files = [lora.file for lora in found]
        self._cached = [loader.holds(file) for file in files]
        self._kept = patcher.holds(tuple(zip(files, scales, strict=True)))
        if not self._kept:
            patcher.restore()
        self._begun = time.monotonic()
        self._pending = loader.begin([] if self._kept else files, [] if self._kept else scales, patcher.prepare)
        if self._kept:
            self._steps = {file.name: 0 for file in files}

    def settle(self, step: int) -> None:
        """Patch in what has arrived; at the bound, wait for the rest first.

        Raises:
            Unavailable: a LoRA is not there in time.
            SwiftDiffusionError: what loading one raised, or the check.
        """
        if len(self._steps) == len(self._found):
            return
        if step >= self._bound:
            self._pending.wait(self._timeout_s, self._check)
        arrived = self._pending.arrived
        if len(arrived) > len(self._steps):
            self._patcher.apply(arrived)
            for lora in arrived:
                self._steps.setdefault(lora.name, step)

    def spans(self) -> Iterator[tuple[str, str, float, float]]:
        """What was done to load each LoRA that is here: part, name, start and end by the monotonic clock.

        Of one that was on the device already there is nothing to tell.
        """
        for lora in self._pending.arrived:
            times = self._loader.times_of(lora.weights)
            if times is None or times.ready < self._begun:
                continue
            if times.fetched > times.begun:
                yield "fetch", lora.name, times.begun, times.fetched
            yield "read and copy", lora.name, times.fetched, times.ready

    def describe(self) -> list[dict[str, Any]]:
        """For each LoRA, fit for JSON.

        Name, scale, the first step (from 0) that it took part in, whether the weights held it already (kept) or the
        host cache (cached), seconds to arrive (0 where it was kept), and whether it changes the text encoders: that
        part the request waited for before its first step.
        """
        seconds = [0.0] * len(self._found) if self._kept else self._pending.seconds
        return [
            {
                "name": lora.file.name,
                "scale": scale,
                "step": self._steps.get(lora.file.name),
                "load_seconds": arrival and round(arrival, 6),
                "kept": self._kept,
                "cached": cached,
                "waited_for_text_encoder": lora.changes_prompts,
            }
            for lora, scale, arrival, cached in zip(self._found, self._scales, seconds, self._cached, strict=True)
        ]
