"""How far the host may run ahead of a GPU."""

from __future__ import annotations

from collections import deque

import torch

STEPS_AHEAD = 2  # one that the GPU works at, and one that it finds waiting


class Pace:
    """Lets steps be enqueued only a little before they run, so that cancelling, LoRAs and progress mean what they say.

    On the CPU, where a call returns when its work is done, there is nothing to wait for.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._running: deque[torch.cuda.Event] = deque()
        self._passed: list[torch.cuda.Event] = []

    def wait(self) -> None:
        """Wait until fewer than `STEPS_AHEAD` marked steps are still to be done."""
        while len(self._running) >= STEPS_AHEAD:
            event = self._running.popleft()
            event.synchronize()
            self._passed.append(event)

    def mark(self) -> None:
        """Say that a step has been enqueued."""
        if self._device.type == "cuda":
            # that blocks: the processor is left to others meanwhile
            event = self._passed.pop() if self._passed else torch.cuda.Event(blocking=True)
            event.record(torch.cuda.current_stream(self._device))
            self._running.append(event)
