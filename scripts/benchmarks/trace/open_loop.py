"""An open-loop client: requests are sent when they come, whether earlier ones are answered or not."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.serving.client import Reply, ask
from benchmarks.serving.systems import Request

ANSWER_S = 10.0


@dataclass(frozen=True)
class Queueing:
    """Triton's own count of requests and the seconds that they waited in a model's queue."""

    count: int
    seconds: float

    def since(self, earlier: Queueing) -> float | None:
        """Mean seconds of a request between two readings; None where none was served."""
        count = self.count - earlier.count
        return (self.seconds - earlier.seconds) / count if count else None


def send_open_loop(url: str, model: str, requests: Sequence[Request], arrivals: Sequence[float]) -> list[Reply]:
    """Send each request at its time, over gRPC, and wait for all answers.

    Args:
        url: host and port.
        model: a Triton model.
        requests: inputs by name.
        arrivals: seconds from now for each; rising.
    """

    async def run() -> list[Reply]:
        async with InferenceServerClient(url) as client:
            start = time.perf_counter()

            async def send(request: Request, arrival: float) -> Reply:
                await asyncio.sleep(start + arrival - time.perf_counter())
                return await ask(client, model, request)

            return await asyncio.gather(*map(send, requests, arrivals))

    return asyncio.run(run())


def read_queueing(http_url: str, model: str) -> Queueing:
    """What Triton's statistics say of a model's queue up to now."""
    url = f"http://{http_url}/v2/models/{model}/stats"
    with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
        (stats,) = json.load(answer)["model_stats"]
    queue = stats["inference_stats"]["queue"]
    return Queueing(queue["count"], queue["ns"] / 1e9)
