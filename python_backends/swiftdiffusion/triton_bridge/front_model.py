"""`swiftdiffusion` for Triton: hands each request to the streaming model and its picture back."""

from __future__ import annotations

from typing import Any

from swiftdiffusion.front import FrontConfiguration, relay
from swiftdiffusion.request.ports import FRONT
from swiftdiffusion.triton_bridge.bridge import Bridge

CALLS = 4  # a call that was given up may still be ending while the next one runs


class FrontModel:
    """One request at a time; Triton's queue holds the others."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._configuration = bridge.configure(FrontConfiguration)
        self._caller = bridge.open_caller(CALLS)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with its picture or the reason why there is none."""
        return [self._answer(request) for request in requests]

    def close(self) -> None:
        """End the threads."""
        self._caller.close()

    def _answer(self, request: Any) -> Any:
        inputs = self._bridge.read(request)
        try:
            outputs = relay(
                lambda parameters: self._caller.call_stream(self._configuration.stream, FRONT, inputs, parameters),
                request.is_cancelled,
                self._configuration.timeout_s,
            )
            return self._bridge.respond(outputs)
        except Exception as error:  # every fault becomes an answer
            return self._bridge.refuse(error)
