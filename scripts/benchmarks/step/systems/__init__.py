"""What is compared: each system does the same things in its own way."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from benchmarks.step.checkpoints import Networks
from benchmarks.step.settings import REFERENCE
from benchmarks.step.workload import Workload
from swiftdiffusion.placement import Placement

Output = Tensor | list[Tensor]


class System(Protocol):
    """Ready to run; what a call returns may be overwritten by the next."""

    def unet(self, work: Workload) -> Output:
        """One UNet step for guidance's batch of two: noise [2, 4, h, w]."""

    def unet_wordless(self, work: Workload) -> Output:
        """The same where there is no negative prompt."""

    def controlnet(self, work: Workload) -> Output:
        """The same step of a ControlNet: its residuals, each [2, c, h, w], or in one, flattened from [2, h, w, c]."""

    def vae(self, work: Workload) -> Output:
        """Decode latents to a picture [1, 3, height, width]."""

    def image(self, work: Workload) -> Output:
        """From noise to a picture [1, 3, height, width], by Euler steps with guidance and no ControlNet."""


def make_system(name: str, networks: Networks, placement: Placement, engine: str) -> System:
    """Make a system of `settings.LABELS`, or the reference; it takes the networks over."""
    if name in ("eager", REFERENCE):
        from benchmarks.step.systems.eager import DiffusersEager

        return DiffusersEager(networks)
    if name == "graph":
        from benchmarks.step.systems.captured import DiffusersCaptured

        return DiffusersCaptured(networks)
    if name == "compile":
        from benchmarks.step.systems.compiled import DiffusersCompiled

        return DiffusersCompiled(networks)
    from benchmarks.step.systems.ours import SwiftDiffusion

    return SwiftDiffusion(networks, placement, engine)
