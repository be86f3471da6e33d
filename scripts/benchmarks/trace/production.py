"""Which add-ons production's requests carry, and when they come.

From the traces of Katz (USENIX ATC'25): two services, 20 days, 500,000 requests.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.loras.services import SERVICES as LORA_SERVICES

CONTROLNETS = 141  # in production; those that are served here are the most popular ones
SEED = 78


@dataclass(frozen=True)
class Service:
    """Shares of requests by their number of add-ons, and how popularity falls with the rank (Zipf's exponents)."""

    controlnets: tuple[float, ...]  # with 0, 1, 2 and 3
    controlnet_exponent: float
    loras: tuple[float, ...]  # with 0, 1 and 2
    lora_exponent: float


# the ControlNets' exponents are those by which the 5 first of 141 have 98 % of A's uses, and the 8 first 95 % of B's
SERVICES = {
    "A": Service((0.0, 0.305, 0.695, 0.0), 2.81, LORA_SERVICES["A"].loras, LORA_SERVICES["A"].exponent),
    "B": Service((0.019, 0.251, 0.699, 0.031), 2.12, LORA_SERVICES["B"].loras, LORA_SERVICES["B"].exponent),
}


@dataclass(frozen=True)
class Draw:
    """What one request carries: ranks of add-ons, from 0 for the most popular."""

    controlnets: tuple[int, ...]
    loras: tuple[int, ...]


def draw_add_ons(service: Service, controlnets: int, loras: int, seed: int = SEED) -> Iterator[Draw]:
    """Endlessly many requests' add-ons, out of so many ControlNets and LoRAs; the same for the same seed."""
    randomness = random.Random(seed)
    controlnet_weights = _weigh(controlnets, service.controlnet_exponent)
    lora_weights = _weigh(loras, service.lora_exponent)
    while True:
        yield Draw(
            _choose(randomness, service.controlnets, controlnet_weights),
            _choose(randomness, service.loras, lora_weights),
        )


def draw_arrivals(rate: float, count: int, seed: int = SEED) -> list[float]:
    """Seconds from the start at which `count` requests of a Poisson process come, `rate` a second in the mean."""
    randomness = random.Random(seed)
    now, arrivals = 0.0, []
    for _ in range(count):
        now += randomness.expovariate(rate)
        arrivals.append(now)
    return arrivals


def _weigh(count: int, exponent: float) -> list[float]:
    return [(rank + 1) ** -exponent for rank in range(count)]


def _choose(randomness: random.Random, shares: Sequence[float], weights: list[float]) -> tuple[int, ...]:
    wanted = min(randomness.choices(range(len(shares)), shares)[0], len(weights))
    chosen: list[int] = []
    while len(chosen) < wanted:
        rank = randomness.choices(range(len(weights)), weights)[0]
        if rank not in chosen:
            chosen.append(rank)
    return tuple(chosen)
