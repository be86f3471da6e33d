"""Keeping the host near the GPU while something is still to come between two steps."""

from __future__ import annotations

import torch


class StepPace:
    """Lets the host be one step ahead of the device, and no more.

    Enqueuing a step takes a thousandth of its time, so a host that is not held would have enqueued all of them before
    a LoRA has arrived, and the patch would come last. On the CPU, which does at once what it is told, nothing waits.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begun: torch.cuda.Event | None = None

    def follow(self) -> None:
        """Called before a step is enqueued: return when the device has begun the one before, sleeping until then."""
        if self._device.type != "cuda":
            return
        if self._begun is not None:
            self._begun.synchronize()
        self._begun = torch.cuda.Event(blocking=True)
        self._begun.record(torch.cuda.current_stream(self._device))
