"""From a model's configuration to its service, loaded where the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from swiftdiffusion.placement import Placement, choose_placement, set_threads
from swiftdiffusion.triton_bridge.bridge import Bridge


class Placeable(Protocol):
    """The parameters that every model with a network has."""

    @property
    def device(self) -> str:
        """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""

    @property
    def dtype(self) -> str:
        """``auto``, ``fp32``, ``fp16`` or ``bf16``."""

    @property
    def threads(self) -> int:
        """CPU threads; 0 for torch's own choice."""


Configuration = TypeVar("Configuration", bound=Placeable)
Loaded = TypeVar("Loaded")


def load(
    open_service: Callable[[Configuration, Placement], Loaded], family: type[Configuration], bridge: Bridge
) -> Loaded:
    """Read the configuration as `family`, choose the device, and open the service there."""
    configuration = bridge.configure(family)
    set_threads(configuration.threads)
    placement = choose_placement(configuration.device, configuration.dtype, *bridge.instance)
    return open_service(configuration, placement)
