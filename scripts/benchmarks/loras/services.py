"""How many LoRAs requests of production carry, and how popular these are.

From the traces of Katz (USENIX ATC'25). Popularity falls as a power of the rank (Zipf). The exponents are those with
which ten slots, least recently used, are hit as often as reported: 35 % of service A's LoRAs, 52 % of B's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """How requests of one production service look."""

    loras: tuple[float, float, float]  # shares of requests with 0, 1 and 2
    exponent: float


SERVICES = {"A": Service((0.002, 0.088, 0.910), 0.84), "B": Service((0.072, 0.736, 0.192), 1.08)}
