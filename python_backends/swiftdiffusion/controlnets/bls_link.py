"""The link that carries tensors by Triton's calls, over the hosts' memory: everywhere, and slowly."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.controlnets.pulse import Pulse

LOOK_S = 0.02  # how often a wait looks whether the other end lives

# (sample, timestep), on the host in fp32 -> residuals, later
CallStep = Callable[[Tensor, Tensor], "Future[NDArray[np.float32]]"]


class BlsLink:
    """One ControlNet, called once a step."""

    transport = "bls"

    def __init__(self, call_step: CallStep, pulse: Pulse) -> None:
        self._call_step, self._pulse = call_step, pulse
        self._answer: Future[Any] | None = None

    def start_step(self, sample: Tensor, timestep: Tensor) -> None:
        """Send the sample off."""
        self._answer = self._call_step(sample, timestep)

    def residuals(self) -> Tensor:
        """Wait for the answer: fp32 on the host."""
        assert self._answer is not None
        while not wait([self._answer], LOOK_S).done:
            self._pulse.check()
        return torch.from_numpy(self._answer.result())

    def check(self) -> None:
        """Nothing is under way between the steps."""

    def close(self) -> None:
        """Nothing to let go of."""
