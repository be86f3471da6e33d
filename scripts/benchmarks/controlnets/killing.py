"""A streamed request, within whose steps processes are killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.controlnets.repository import STREAMED
from benchmarks.serving.client import make_inputs
from benchmarks.serving.systems import Request
from launch.problems import LaunchError


@dataclass(frozen=True)
class Kill:
    """What came of it; times in seconds of the machine's monotonic clock."""

    step: int  # the last one that was done
    killed: float
    answered: float
    failure: str  # what the sender was told; empty where the picture came all the same


async def kill_within(url: str, request: Request, step: int, processes: Sequence[int]) -> Kill:
    """Stream a request and kill the processes as soon as its step `step`, from 1, is told to be done.

    Raises LaunchError where the request ends before.
    """

    async def send() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": STREAMED, "inputs": make_inputs(request)}

    async with InferenceServerClient(url) as client:
        done, killed = 0, 0.0
        async for result, error in client.stream_infer(send()):
            steps = None if error else result.as_numpy("step")
            if steps is None:  # the last response
                if not killed:
                    raise LaunchError(f"the request ended before step {step}: {error or 'with its picture'}")
                return Kill(done, killed, time.perf_counter(), str(error or ""))
            if not killed:
                done = int(steps[0])
                if done >= step:
                    killed = time.perf_counter()
                    for process in processes:
                        os.kill(process, signal.SIGKILL)
    raise LaunchError("the server ended the stream without an answer")
