"""`swiftdiffusion` for Triton: a lane that answers each request with its picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.controlnets.repair import Repairs
from swiftdiffusion.errors import Cancelled
from swiftdiffusion.lane import Lane
from swiftdiffusion.lane_configuration import LaneConfiguration
from swiftdiffusion.lifeline import PARAMETER, Holder
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.answer import encode_picture
from swiftdiffusion.request.result import Picture, Progress
from swiftdiffusion.services.contracts import CONTROLNET
from swiftdiffusion.triton_bridge.bridge import Bridge
from swiftdiffusion.triton_bridge.loading import load
from swiftdiffusion.triton_bridge.model_control import TritonModelControl
from swiftdiffusion.triton_bridge.outbox import Outbox

CALLS_A_CONTROLNET = 2  # guidance on two GPUs attaches each twice


class LaneModel:
    """One request at a time on one lane, which draws while the picture before is encoded; Triton queues the others."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._lane = load(self._open_lane, LaneConfiguration, bridge)
        self._outbox = Outbox(bridge)

    def execute(self, requests: list[Any]) -> None:
        """Have each request answered with its picture or the reason why there is none."""
        for request in requests:
            self._outbox.send(request, self._answer(request))

    def close(self) -> None:
        """Send what is left and end the threads."""
        self._outbox.close()
        self._lane.close()
        self._caller.close()

    def _open_lane(self, configuration: LaneConfiguration, placement: Placement) -> Lane:
        # to each model; all ControlNets of a request, which run at the same time, may be one model's
        self._caller = self._bridge.open_caller(CALLS_A_CONTROLNET * configuration.controlnets_max)
        call, is_ready, prefix = self._caller.call, self._bridge.is_ready, configuration.controlnet_prefix
        repairs = Repairs(
            TritonModelControl(is_ready), lambda model: call(model, CONTROLNET, {}), configuration.controlnet_patience_s
        )
        catalogue = Catalogue(
            call,
            lambda: self._bridge.list_models(prefix),
            is_ready,
            prefix,
            configuration.controlnet_timeout_s,
            repairs.is_usable,
        )
        return Lane(configuration, placement, call, catalogue, repairs)

    def _answer(self, request: Any) -> Callable[[], Any]:
        """What makes the answer, of a picture that is drawn already."""
        try:
            token = self._bridge.read_parameters(request).get(PARAMETER)
            if token is None:
                picture = self._draw(request, request.is_cancelled)
            else:
                with Holder(token) as holder:
                    picture = self._draw(request, holder.is_cut, lambda progress: holder.send(progress.pack()))
            return lambda: self._bridge.respond(encode_picture(picture))
        except Exception as error:  # every fault becomes an answer
            refusal = self._bridge.refuse(error)
            return lambda: refusal

    def _draw(
        self, request: Any, is_given_up: Callable[[], bool], report: Callable[[Progress], None] | None = None
    ) -> Picture:
        def check() -> None:
            if is_given_up():
                raise Cancelled

        return self._lane.draw(self._lane.accept(self._bridge.read(request)), check, report)
