"""diffusers without its host: eager's own kernels, replayed as CUDA graphs."""

from __future__ import annotations

from benchmarks.captured import Captured
from benchmarks.step.checkpoints import Networks
from benchmarks.step.systems.eager import DiffusersEager


class DiffusersCaptured(DiffusersEager):
    """The eager system with each network's `forward` captured, on a GPU.

    On a host that cannot launch eager's kernels as fast as the GPU runs them, eager's time is that host's; this is what
    the GPU needs.
    """

    def __init__(self, networks: Networks) -> None:
        for network in (networks.unet, networks.controlnet, networks.vae.decoder):
            network.forward = Captured(network.forward)
        super().__init__(networks)
