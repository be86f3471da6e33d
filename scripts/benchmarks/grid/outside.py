"""How much of a request is spent outside the networks: Triton, calls between models, codecs, Python."""

from __future__ import annotations

from typing import Any

from benchmarks.serving.systems import Request
from launch.server import Server


def measure_outside(server: Server, requests: list[Request]) -> dict[str, Any] | None:
    """To come with spans."""
    return None
