"""From a model's configuration to its service, loaded where the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from swiftdiffusion.interpreter import shorten_pauses
from swiftdiffusion.placement import NetworkConfiguration, Placement, choose_placement, set_threads
from swiftdiffusion.triton_bridge.bridge import Bridge

Configuration = TypeVar("Configuration", bound=NetworkConfiguration)
Loaded = TypeVar("Loaded")


def load(
    open_service: Callable[[Configuration, Placement], Loaded], family: type[Configuration], bridge: Bridge
) -> Loaded:
    """Read the configuration as `family`, choose the device, and open the service there."""
    configuration = bridge.configure(family)
    set_threads(configuration.threads)
    placement = choose_placement(configuration.device, configuration.dtype, *bridge.instance)
    service = open_service(configuration, placement)
    shorten_pauses()
    return service
