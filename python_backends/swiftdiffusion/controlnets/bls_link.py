"""The link that carries tensors by Triton's calls, over the hosts' memory: everywhere, and slowly."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.controlnets.pulse import Pulse
from swiftdiffusion.errors import Unavailable

LOOK_S = 0.02  # how often a wait looks whether the other end lives

# (sample, timestep), on the host in fp32 -> residuals, later
CallStep = Callable[[Tensor, Tensor], "Future[NDArray[np.float32]]"]


class BlsLink:
    """One ControlNet, called once a step."""

    transport = "bls"
    goes_first = False  # the host would wait for it, and enqueue the encoder half only then

    def __init__(self, call_step: CallStep, pulse: Pulse, name: str, timeout_s: float) -> None:
        """Args: how a step is called, the other end's pulse, the ControlNet's name, and how long a call may take."""
        self._call_step, self._pulse, self._name, self._timeout_s = call_step, pulse, name, timeout_s
        self._answer: Future[Any] | None = None

    def start_step(self, sample: Tensor, timestep: Tensor) -> None:
        """Send the sample off."""
        self._answer = self._call_step(sample, timestep)

    def residuals(self) -> Tensor:
        """Wait for the answer: fp32 on the host. A process that lives may still never give one."""
        assert self._answer is not None
        deadline = time.monotonic() + self._timeout_s
        while not wait([self._answer], LOOK_S).done:
            self._pulse.check()
            if time.monotonic() > deadline:
                raise Unavailable(f"ControlNet {self._name!r} gave no residuals within {self._timeout_s:g} s")
        return torch.from_numpy(self._answer.result())

    def check(self) -> None:
        """Nothing is under way between the steps."""

    def close(self) -> None:
        """Nothing to let go of."""
