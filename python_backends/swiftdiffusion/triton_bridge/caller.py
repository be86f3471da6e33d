"""Calls from one model to another inside the server (Triton's business logic scripting, BLS)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.daemon_threads import DaemonThreads
from swiftdiffusion.errors import Internal, Lost, SwiftDiffusionError, Unavailable, from_description, is_description
from swiftdiffusion.signature import Arrays, Signature

CLOSE_S = 2.0  # for calls under way; a model that hangs is not waited for


class Caller:
    """Starts calls on threads of its own, so that several run beside the caller's own work.

    Each called model has its own, so that one that hangs takes none from the others.
    """

    def __init__(self, pb_utils: Any, calls: int) -> None:
        """Args: the stub's ``triton_python_backend_utils``, and how many calls run at a time to each model."""
        self._pb_utils, self._calls = pb_utils, calls
        self._threads: dict[str, DaemonThreads] = {}
        self._lock = threading.Lock()

    def call(
        self, model: str, contract: Signature, inputs: Arrays, parameters: Mapping[str, str] | None = None
    ) -> Future[dict[str, NDArray[Any]]]:
        """Start a call to a model that answers once; the future has its outputs, or raises its error."""
        with self._lock:
            threads = self._threads.setdefault(model, DaemonThreads(self._calls, f"bls-{model}"))
        return threads.submit(self._call, model, contract, inputs, parameters or {})

    def close(self) -> None:
        """Start no more calls, and wait a little for those under way."""
        with self._lock:
            all_threads = list(self._threads.values())
        for threads in all_threads:
            threads.close(CLOSE_S)

    def _call(
        self, model: str, contract: Signature, inputs: Arrays, parameters: Mapping[str, str]
    ) -> dict[str, NDArray[Any]]:
        request = self._pb_utils.InferenceRequest(
            model_name=model,
            requested_output_names=[port.name for port in contract.outputs],
            inputs=[self._pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in inputs.items()],
            parameters=dict(parameters),
        )
        response = request.exec()
        if response.has_error():
            raise _rebuild(model, response.error().message())
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


# what Triton itself says where it does not hand a request on
_NOT_SERVED = ("not ready", "failed to find", "unknown model")
_DIED = "is not healthy"
_QUEUE_SAYS = ("Exceeds maximum queue size", "Request timeout expired")


def _rebuild(model: str, message: str) -> SwiftDiffusionError:
    """The called model's own error, which may quote anything; else what Triton's own words mean."""
    if is_description(message):
        return from_description(message)
    if any(words in message for words in _NOT_SERVED):
        return Unavailable(f"model {model!r} is not being served at the moment")
    if _DIED in message:
        return Lost(f"the process of model {model!r} has died")
    if any(words in message for words in _QUEUE_SAYS):
        return Unavailable(message)
    return Internal(message)
