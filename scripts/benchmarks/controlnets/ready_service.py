"""A ControlNet's process whose residuals are always ready, so that only their way to the lane takes time.

`python3 -m benchmarks.controlnets.ready_service FORM` reads lifelines' tokens from its standard input, one a line, and
attaches each as the `controlnet` backend does. `FORM` is a JSON object of `device`, `dtype` (a key of `DTYPES`),
`sample` (a shape), `residuals` (their number) and `steps`. It prints a line when it is ready, and ends with its input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swiftdiffusion.controlnets.loaded import LoadedControlNet
from swiftdiffusion.controlnets.session import Attached, ControlNetSession
from swiftdiffusion.engines.session import Session, SimpleSession
from swiftdiffusion.lifeline import Holder
from swiftdiffusion.placement import DTYPES, Placement

READY = "ready"
PERIOD = 1000  # of the residuals' values, all of which fp16 holds exactly


class ReadyEngine:
    """An engine of which only `open` is asked; a step gives the same tensor again."""

    def __init__(self, residuals: Tensor) -> None:
        self._residuals = residuals

    def open(self, *inputs: Any) -> Session:
        """A session with nothing to do."""
        return SimpleSession(lambda *_: self._residuals, ())

    def __call__(self, *inputs: Any) -> Tensor:
        """The residuals."""
        return self._residuals

    def require_size(self, batch: int, height: int, width: int) -> None:
        """It takes any."""

    def parameters(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def weights_changed(self, names: Any) -> None:
        """Nothing has."""


def make_residuals(count: int, placement: Placement) -> Tensor:
    """Values [count] by which the lane knows that all have come, in their places."""
    return (torch.arange(count, device=placement.device) % PERIOD).to(placement.dtype)


def main() -> None:
    """Serve until the input ends."""
    form = json.loads(sys.argv[1])
    placement = Placement(torch.device(form["device"]), DTYPES[form["dtype"]])
    if placement.device.type == "cuda":
        torch.cuda.set_device(placement.device)
    residuals = make_residuals(form["residuals"], placement)
    channels = form["sample"][1]
    controlnet = LoadedControlNet(ReadyEngine(residuals), residuals.nbytes, channels, pixels_a_latent=1)

    @contextmanager
    def lend(check: Callable[[], None]) -> Iterator[LoadedControlNet]:
        yield controlnet

    attached = Attached(np.zeros(form["steps"], np.float32))
    if placement.device.type == "cuda":
        torch.cuda.synchronize()  # sessions have streams of their own
    print(READY, flush=True)
    for line in sys.stdin:
        ControlNetSession(Holder(line.strip()), attached, lend, placement).start(lambda: None)


if __name__ == "__main__":
    main()
