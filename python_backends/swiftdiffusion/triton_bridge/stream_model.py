"""`swiftdiffusion_stream` for Triton: each step of the lane goes out as a response, the picture last."""

from __future__ import annotations

from typing import Any

from swiftdiffusion.relay import RelayConfiguration, relay
from swiftdiffusion.request.answer import encode_progress
from swiftdiffusion.request.ports import PICTURE_MODEL
from swiftdiffusion.request.result import Progress
from swiftdiffusion.triton_bridge.bridge import Bridge

CALLS = 4  # a call that was given up may still be ending while the next one runs


class StreamModel:
    """One request at a time; Triton's queue holds the others."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._configuration = bridge.configure(RelayConfiguration)
        self._caller = bridge.open_caller(CALLS)

    def execute(self, requests: list[Any]) -> None:
        """Have each request drawn in turn, sending responses as they come."""
        for request in requests:
            self._relay(request)

    def close(self) -> None:
        """End the threads."""
        self._caller.close()

    def _relay(self, request: Any) -> None:
        sender = request.get_response_sender()
        try:
            inputs = self._bridge.read(request)
            as_text = bool(inputs["base64"].any()) if "base64" in inputs else False

            def report(progress: Progress) -> None:
                sender.send(self._bridge.respond(encode_progress(progress, as_text)))

            outputs = relay(
                lambda parameters: self._caller.call(self._configuration.lane, PICTURE_MODEL, inputs, parameters),
                sender.is_cancelled,
                report,
                self._configuration.timeout_s,
            )
            sender.send(self._bridge.respond(outputs), flags=self._bridge.final_flag)
        except Exception as error:  # every fault becomes an answer
            sender.send(self._bridge.refuse(error), flags=self._bridge.final_flag)
