"""One request over a gRPC stream: progress with every step, the picture last."""

import io
import json
import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from launch.interrupts import check_interrupts
from launch.problems import LaunchError
from launch.server import Server

MODEL = "swiftdiffusion_stream"
POLL_SECONDS = 0.1
SILENCE_SECONDS = 300.0  # between two responses

Values = Mapping[str, list[Any]]
Answer = tuple[InferResult | None, InferenceServerException | None]

DTYPES = {str: np.object_, bytes: np.object_, int: np.int32, float: np.float32}
WIDE = {"seed": np.int64}


@dataclass(frozen=True)
class Drawing:
    """A finished picture, as the server sent it."""

    file: bytes  # PNG, with the request in its metadata
    info: Mapping[str, Any]  # the resolved request, when each LoRA took effect, seconds by stage

    @property
    def picture(self) -> Image.Image:
        """The picture decoded."""
        return Image.open(io.BytesIO(self.file)).convert("RGB")


def draw_over_stream(
    server: Server, client: InferenceServerClient, inputs: Values, show_step: Callable[[int, int], None]
) -> Drawing:
    """Send one request and follow it; `show_step` is told each step and of how many.

    Raises `LaunchError` with the server's own sentence if it refuses, and if it ends or falls silent.
    """
    answers: queue.Queue[Answer] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        client.async_stream_infer(MODEL, [make_input(name, values) for name, values in inputs.items()])
        while True:
            result = _await_answer(answers, server)
            image = result.as_numpy("image")
            if image is not None and image.size and image[0]:
                return Drawing(image[0], json.loads(result.as_numpy("info")[0]))
            show_step(int(result.as_numpy("step")[0]), int(result.as_numpy("steps")[0]))
    finally:
        client.stop_stream(cancel_requests=True)


def make_input(name: str, values: list[Any]) -> InferInput:
    """Give the values of one input, all of the same type, the shape and type that the server expects."""
    array = np.array(values, dtype=WIDE.get(name, DTYPES[type(values[0])]))
    tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _await_answer(answers: "queue.Queue[Answer]", server: Server) -> InferResult:
    for _ in range(int(SILENCE_SECONDS / POLL_SECONDS)):
        check_interrupts()
        try:
            result, error = answers.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if not server.is_running():
                raise LaunchError(f"tritonserver ended by itself:\n{server.explain_failure()}") from None
            continue
        if error:
            raise LaunchError(f"The server refuses: {error.message()}")
        assert result is not None  # tritonclient gives one of the two
        return result
    raise LaunchError(f"The server has said nothing for {SILENCE_SECONDS:.0f} s: see {server.settings.log}.")
