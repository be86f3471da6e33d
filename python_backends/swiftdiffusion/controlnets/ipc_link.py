"""The link over a mailbox in GPU memory: each step is enqueued, and no host waits."""

from __future__ import annotations

import threading
import time

import torch
from torch import Tensor

from swiftdiffusion.controlnets.mailbox import Mailbox
from swiftdiffusion.controlnets.pulse import Pulse
from swiftdiffusion.controlnets.words import RELEASE, Word
from swiftdiffusion.errors import SwiftDiffusionError, Unavailable

LOOK_S = 0.01  # how often the watch looks


class IpcLink:
    """One ControlNet whose process has the mailbox open.

    A watch on a thread of its own looks whether residuals that are owed come in time. When they do not, it lets the
    lane's stream go on, with whatever the mailbox holds, so that nothing that waits for the GPU waits for ever; the
    next `start_step`, `residuals` or `check` then raises, and nothing made of those residuals is to be used.
    """

    transport = "ipc"

    def __init__(self, mailbox: Mailbox, pulse: Pulse, name: str, timeout_s: float, goes_first: bool) -> None:
        """Make the link of a ControlNet that is ready.

        Args:
            mailbox: the lane's, which the other process has open.
            pulse: the other end's.
            name: the ControlNet's.
            timeout_s: for how long residuals may be owed.
            goes_first: whether the UNet's encoder half runs after the ControlNet, not beside it.
        """
        self.goes_first = goes_first
        self._mailbox, self._pulse, self._name, self._timeout_s = mailbox, pulse, name, timeout_s
        self._steps = 0
        self._failure: SwiftDiffusionError | None = None
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._look_out, name=f"watch-{name}", daemon=True)
        self._watch.start()

    def start_step(self, sample: Tensor, timestep: Tensor) -> None:
        """Lay the sample into the mailbox; the timesteps were told when attaching."""
        self.check()
        self._steps += 1
        with torch.cuda.device(self._mailbox.form.device):
            self._mailbox.sample.copy_(sample, non_blocking=True)
            self._mailbox.words.enqueue_write(Word.SAMPLES, self._steps)

    def residuals(self) -> Tensor:
        """Have the current stream wait for them."""
        self.check()
        with torch.cuda.device(self._mailbox.form.device):
            self._mailbox.words.enqueue_wait(Word.RESIDUALS, self._steps)
        return self._mailbox.residuals

    def check(self) -> None:
        """Raise `Unavailable` if the ControlNet has failed; to be asked again when the picture is done."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Wait for what the lane has enqueued, which the watch keeps from waiting for ever, and end the watch."""
        with torch.cuda.device(self._mailbox.form.device):
            torch.cuda.current_stream().synchronize()
        self._closed.set()
        self._watch.join()

    def _look_out(self) -> None:
        words, done, since = self._mailbox.words, 0, time.monotonic()
        while not self._closed.wait(LOOK_S):
            if self._failure is not None:
                words.write(Word.RESIDUALS, RELEASE)  # again: a late ControlNet may have set it back
                continue
            count, now = words.read(Word.RESIDUALS), time.monotonic()
            owed = words.read(Word.SAMPLES) - count
            if owed <= 0 or count != done:
                done, since = count, now
            try:
                self._pulse.check()
                if now - since > self._timeout_s:
                    raise Unavailable(f"ControlNet {self._name!r} gave no residuals within {self._timeout_s:g} s")
            except SwiftDiffusionError as failure:
                self._failure = failure
