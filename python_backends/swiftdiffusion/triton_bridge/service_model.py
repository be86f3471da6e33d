"""A Triton model that answers each request with one response of its service."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from swiftdiffusion.signature import Arrays, Signature, declare
from swiftdiffusion.triton_bridge.bridge import Bridge


class Service(Protocol):
    """Plain Python behind a model."""

    def answer(self, inputs: Arrays) -> Arrays:
        """Turn a request's inputs into its outputs, as the contract names them; raise what is wrong."""

    def close(self) -> None:
        """Let go of threads."""


class ServiceModel:
    """What the models beside the lanes share; a subclass says whose contract and which service."""

    pb_utils: ClassVar[Any]
    contract: ClassVar[Signature]

    @classmethod
    def auto_complete_config(cls, config: Any) -> Any:
        """Declare inputs and outputs, so that ``config.pbtxt`` need not."""
        return declare(config, cls.contract)

    def open_service(self, bridge: Bridge) -> Service:
        """Load the service; the imports that take seconds belong in here."""
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        """Load the networks."""
        self._bridge = Bridge(self.pb_utils, args)
        self._service = self.open_service(self._bridge)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request; one that is wrong does not hurt the others."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Let go of threads."""
        self._service.close()

    def _answer(self, request: Any) -> Any:
        try:
            return self._bridge.respond(self._service.answer(self._bridge.read(request)))
        except Exception as error:  # every fault becomes an answer
            return self._bridge.refuse(error)
