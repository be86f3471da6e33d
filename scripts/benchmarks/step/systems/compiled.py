"""diffusers made fast with what PyTorch has: torch.compile, channels last, CUDA graphs."""

from __future__ import annotations

import torch

from benchmarks.captured import Captured
from benchmarks.step.checkpoints import Networks
from benchmarks.step.systems.eager import DiffusersEager


class DiffusersCompiled(DiffusersEager):
    """The eager system with each network's `forward` compiled and captured, on a GPU.

    Inductor's default mode and a graph captured by hand: as fast as `reduce-overhead` (Inductor's own graphs) or
    faster, since no guards are checked at a replay, after the same time. `max-autotune` would compile for many minutes.
    """

    def __init__(self, networks: Networks) -> None:
        torch._dynamo.reset()
        torch.backends.cudnn.benchmark = True
        for network in (networks.unet, networks.controlnet, networks.vae.decoder):
            network.to(memory_format=torch.channels_last)
            network.forward = Captured(torch.compile(network.forward, fullgraph=True, dynamic=False))
        super().__init__(networks)
