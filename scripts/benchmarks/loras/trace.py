"""Requests as production has them, over more LoRAs than the caches hold: hits, added latency, memory."""

from __future__ import annotations

import random
import resource
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loras.local_lane import LocalLane
from benchmarks.loras.services import SERVICES, Service
from benchmarks.loras.varied_adapters import write_adapters
from shapes.captions import full_captions
from shapes.evaluate import unseen_scenes

CACHED = 10  # LoRAs that the host cache has room for
SEED = 78


def measure_trace(
    service: str, requests: int, adapters: int, steps: int, tell: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Send the requests one after the other to a lane of `shapes`.

    Returns the shares of LoRAs that were in the weights already or in the host cache, quantiles of the milliseconds
    that LoRAs added (the stage `loras` of a request: restoring, waiting at the bound, patching), and the resident
    memory's growth in MiB after the first fifth of the requests.
    """
    prompts = full_captions(unseen_scenes(min(requests, 100), SEED))
    with tempfile.TemporaryDirectory(prefix="loras-") as scratch:
        largest = write_adapters(Path(scratch), adapters)
        lane = LocalLane(Path(scratch), cache_bytes=CACHED * largest)
        added, kept, cached, wanted = [], 0, 0, 0
        settled = 0.0
        try:
            for number, names in enumerate(draw_requests(SERVICES[service], requests, adapters)):
                tell(f"request {number + 1} of {requests}")
                request: dict[str, list[Any]] = {
                    "prompt": [prompts[number % len(prompts)]],
                    "seed": [number],
                    "steps": [steps],
                    "loras": names,
                }
                info = lane.draw(request).describe()
                added.append(1e3 * info["seconds"]["loras"])
                wanted += len(names)
                kept += sum(lora["kept"] for lora in info["loras"])
                cached += sum(lora["cached"] and not lora["kept"] for lora in info["loras"])
                if number == requests // 5:
                    settled = _resident_mib()
            grown = _resident_mib() - settled
        finally:
            lane.close()
    return {
        "service": service,
        "requests": requests,
        "adapters": adapters,
        "cached_adapters": CACHED,
        "steps": steps,
        "loras_wanted": wanted,
        "in_the_weights_share": round(kept / wanted, 3),
        "host_cache_share": round(cached / wanted, 3),
        "added_ms_p50": round(statistics.median(added), 2),
        "added_ms_p95": round(float(np.quantile(added, 0.95)), 2),
        "memory_growth_mib": round(grown, 1),
    }


def draw_requests(service: Service, count: int, adapters: int) -> Iterator[list[str]]:
    """The LoRAs' names of each request, seeded."""
    randomness = random.Random(SEED)
    weights = [(rank + 1) ** -service.exponent for rank in range(adapters)]
    for _ in range(count):
        wanted = randomness.choices((0, 1, 2), service.loras)[0]
        names: list[str] = []
        while len(names) < wanted:
            name = f"lora{randomness.choices(range(adapters), weights)[0]:03}"
            if name not in names:
                names.append(name)
        yield names


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
