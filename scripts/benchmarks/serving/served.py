"""A system while it is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.serving.checkpoints import FreshAdapters


def _count_one(controlnets: list[str]) -> int:
    return 1


@dataclass(frozen=True)
class Served:
    """Where it answers, and with what it was started."""

    http_url: str  # host and port, as tritonclient wants them
    grpc_url: str
    adapters: FreshAdapters
    count_gpus: Callable[[list[str]], int] = _count_one  # that work on a request with these ControlNets
