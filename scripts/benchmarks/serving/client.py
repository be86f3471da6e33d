"""Requests to a server by tritonclient, where a load generator's figures are not enough."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from benchmarks.serving.systems import Request
from swiftdiffusion.request.ports import PICTURE_MODEL

DATA_TYPES = {
    port.name: port.data_type.removeprefix("TYPE_").replace("STRING", "BYTES") for port in PICTURE_MODEL.inputs
}


@dataclass(frozen=True)
class Reply:
    """What came of a request; times in seconds of the machine's monotonic clock."""

    sent: float
    received: float
    info: dict[str, Any]  # empty where it failed
    failure: str = ""  # with gRPC's code
    pixels: NDArray[np.uint8] | None = None  # [height, width, 3], where the format is raw

    @property
    def seconds(self) -> float:
        """From sending to the answer."""
        return self.received - self.sent


async def ask(client: InferenceServerClient, model: str, request: Request) -> Reply:
    """Send one request and wait for its answer; a failure is an answer, too."""
    inputs = make_inputs(request)
    sent = time.perf_counter()
    try:
        answer = await client.infer(model, inputs)
    except InferenceServerException as error:
        return Reply(sent, time.perf_counter(), {}, str(error))
    received = time.perf_counter()
    return Reply(sent, received, json.loads(answer.as_numpy("info")[0]), pixels=answer.as_numpy("pixels"))


def ask_in_turn(url: str, model: str, requests: list[Request]) -> list[Reply]:
    """Send requests one after the other over gRPC."""

    async def run() -> list[Reply]:
        async with InferenceServerClient(url) as client:
            await client.is_server_ready()  # to connect is no part of the first request
            return [await ask(client, model, request) for request in requests]

    return asyncio.run(run())


def make_inputs(request: Request) -> list[InferInput]:
    """A request's tensors, as tritonclient sends them over gRPC."""
    return [_make_input(name, values) for name, values in request.items()]


def _make_input(name: str, values: list[Any]) -> InferInput:
    tensor = InferInput(name, [len(values)], DATA_TYPES[name])
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    tensor.set_data_from_numpy(np.array(encoded, dtype=triton_to_np_dtype(DATA_TYPES[name])))
    return tensor
