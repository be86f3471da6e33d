"""ControlNets that a lane runs itself, on its own GPUs.

One on the GPU of its UNet gains nothing from a process of its own: both want the same processors, and a GPU that two
processes have by turns idles while it changes from one to the other, twice a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.controlnets.attachment import Subject
from swiftdiffusion.controlnets.library import ControlNetLibrary
from swiftdiffusion.controlnets.loaded import LoadedControlNet
from swiftdiffusion.controlnets.shelf import MEBIBYTE, Shelf
from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.denoising.timeline import Timeline
from swiftdiffusion.engines.session import Session
from swiftdiffusion.placement import send

HERE = "lane"  # in place of a transport
PREFIX = "controlnets_"  # of a lane's parameters for them


class ResidentControlNets:
    """A lane's own, on each of its GPUs: the same ones, each loaded where it is asked for."""

    def __init__(
        self, libraries: Mapping[torch.device, ControlNetLibrary], memory_mb: float, pinned: Sequence[str]
    ) -> None:
        """Load what is pinned.

        Args:
            libraries: where they come from, by the GPU that they are for; none for a lane that has none.
            memory_mb: for the weights on one GPU; 0 for no limit.
            pinned: those that are loaded at once and stay.

        Raises:
            InvalidArgument: one pinned that is not there, or that the memory does not hold.
        """
        budget = int(memory_mb * MEBIBYTE)
        self._shelves = {device: Shelf(library, budget, pinned, PREFIX) for device, library in libraries.items()}

    def names(self) -> Sequence[str]:
        """Those that there are."""
        return next((shelf.names() for shelf in self._shelves.values()), ())

    def attach(self, name: str, subject: Subject, timeout_s: float) -> ResidentAttachment:
        """Begin attaching one of `names`, which may take so many seconds to load."""
        return ResidentAttachment(self._shelves[subject.form.device], name, subject, timeout_s)

    def close(self) -> None:
        """Load nothing more."""
        for shelf in self._shelves.values():
            shelf.close()


class ResidentAttachment:
    """One of the lane's own ControlNets at work for a request. `close` it, whatever happened."""

    model = None  # none serves it

    def __init__(self, shelf: Shelf[LoadedControlNet], name: str, subject: Subject, timeout_s: float) -> None:
        self.name = name
        self.spans: Sequence[Mapping[str, Any]] = ()  # once it is closed, if they were asked for
        self._shelf, self._subject, self._timeout_s = shelf, subject, timeout_s
        self._timeline = Timeline() if subject.trace else None
        self._stack = ExitStack()
        self._session: Session | None = None

    def describe(self) -> dict[str, Any]:
        """Name, and that the lane runs it; fit for JSON."""
        return {"name": self.name, "model": "", "transport": HERE, "goes_first": False}

    def prepare(self, check: Callable[[], None]) -> None:
        """Have it loaded; raises as `Shelf.lease` does."""
        self._controlnet = self._stack.enter_context(self._shelf.lease(self.name, check, self._timeout_s))

    def show(self, image: Future[NDArray[np.uint8]]) -> None:
        """Say where the reference [height, width, 3] will come from; it is not waited for before a step needs it."""
        self._image = image

    def hand_over(self, conditioning: Conditioning) -> None:
        """Give what its branch of the UNet sees."""
        self._conditioning = conditioning

    def wait(self, check: Callable[[], None]) -> ResidentLink:
        """The link, after all that was given; nothing is waited for."""
        return ResidentLink(self._open, self._subject.form.device)

    def check(self) -> None:
        """It fails where it is called."""

    def close(self) -> None:
        """Let the ControlNet go, once what it has under way is done."""
        with self._stack:
            if self._session is not None:
                if self._subject.form.device.type == "cuda":
                    torch.cuda.current_stream(self._subject.form.device).synchronize()
                self._session.close()
                if self._timeline is not None:
                    self.spans = self._timeline.report()

    def _open(self) -> Session:
        form = self._subject.form
        image = send(torch.from_numpy(self._image.result()), form.device).to(form.dtype)
        timestep, prompts = send(self._subject.timesteps[0], form.device), self._conditioning.to(form.device)
        self._session = self._controlnet.open(timestep, prompts, image, self._timeline)
        return self._session


class ResidentLink:
    """Enqueues its steps where the lane's own work is, and only when their residuals are asked for.

    So the UNet's encoder half is ahead of them, which in the first step hides what must be done before it.
    """

    transport = HERE
    goes_first = False

    def __init__(self, open_session: Callable[[], Session], device: torch.device) -> None:
        """Args: what opens the session, in the first step; where it runs."""
        self._open, self._device = open_session, device
        self._session: Session | None = None
        self._asked: tuple[Tensor, Tensor] | None = None

    def start_step(self, sample: Tensor, timestep: Tensor) -> None:
        """Remember what the step is to be computed from, which must stay as it is until then."""
        self._asked = sample, timestep

    def residuals(self) -> Tensor:
        """The started step's, until the next one starts; raises InvalidArgument where the reference is broken."""
        if self._asked is not None:
            with _on(self._device):
                self._session = self._session or self._open()
                self._residuals: Tensor = self._session.step(*self._asked)
            self._asked = None
        return self._residuals


def _on(device: torch.device) -> Any:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
