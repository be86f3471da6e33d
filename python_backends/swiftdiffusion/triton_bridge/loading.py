"""From a model's configuration to its service, loaded where the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from swiftdiffusion.interpreter import shorten_pauses
from swiftdiffusion.placement import NetworkConfiguration, Placement, choose_placement
from swiftdiffusion.triton_bridge.bridge import Bridge

Configuration = TypeVar("Configuration", bound=NetworkConfiguration)
Loaded = TypeVar("Loaded")


def load(
    open_service: Callable[[Configuration, Placement], Loaded], family: type[Configuration], bridge: Bridge
) -> Loaded:
    """Read the configuration as `family`, choose the device, and open the service there."""
    configuration = bridge.configure(family)
    if configuration.threads:
        torch.set_num_threads(configuration.threads)
    placement = choose_placement(configuration.device, configuration.dtype, *bridge.instance)
    torch.backends.cudnn.allow_tf32 = False  # fp32 is to mean it; by itself torch lets convolutions round to TF32
    service = open_service(configuration, placement)
    if not configuration.threads and placement.device.type == "cuda":
        # What a request leaves to the host takes less time than to wake threads for it, which then keep the cores busy
        # where others have work: prompts' embeddings became fp16 in 0.13 ms on one thread, in 5.3 ms on 32 (2026-11-24)
        torch.set_num_threads(1)
    shorten_pauses()
    return service
