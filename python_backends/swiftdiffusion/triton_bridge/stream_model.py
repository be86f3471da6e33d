"""`swiftdiffusion_stream` for Triton: a lane whose steps go out as responses, the picture last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from swiftdiffusion.errors import Cancelled
from swiftdiffusion.lane import Lane, LaneConfiguration
from swiftdiffusion.lifeline import PARAMETER, Holder
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.answer import encode_picture, encode_progress
from swiftdiffusion.request.result import Progress
from swiftdiffusion.triton_bridge.bridge import Bridge
from swiftdiffusion.triton_bridge.loading import load


class StreamModel:
    """One request at a time on one lane; Triton's queue holds the others."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._lane = load(self._open_lane, LaneConfiguration, bridge)

    def execute(self, requests: list[Any]) -> None:
        """Draw for each request in turn, sending responses as they come."""
        for request in requests:
            self._draw(request)

    def close(self) -> None:
        """End the threads."""
        self._lane.close()
        self._caller.close()

    def _open_lane(self, configuration: LaneConfiguration, placement: Placement) -> Lane:
        self._prefix = configuration.controlnet_prefix
        # all ControlNets of a request run at the same time, or the prompt's or the picture's model
        self._caller = self._bridge.open_caller(configuration.controlnets_max)
        return Lane(configuration, placement, self._caller.call, self._list_controlnets)

    def _draw(self, request: Any) -> None:
        sender = request.get_response_sender()
        final = self._bridge.final_flag
        holder = None
        try:
            if token := self._bridge.read_parameters(request).get(PARAMETER):
                holder = Holder(token)
            check = _make_check(sender.is_cancelled if holder is None else holder.is_cut)
            asked = self._lane.accept(self._bridge.read(request))
            if holder is not None:  # the front passes on nothing but the picture
                asked = replace(asked, preview_every=0)

            def report(progress: Progress) -> None:
                if holder is None:
                    sender.send(self._bridge.respond(encode_progress(progress, asked)))

            picture = self._lane.draw(asked, check, report)
            sender.send(self._bridge.respond(encode_picture(picture)), flags=final)
        except Exception as error:  # every fault becomes an answer
            sender.send(self._bridge.refuse(error), flags=final)
        finally:
            if holder is not None:
                holder.close()

    def _list_controlnets(self) -> list[str]:
        """The ControlNets whose models are loaded; their folders' names are all that is read."""
        folders = self._bridge.model_repository.glob(f"{self._prefix}*/config.pbtxt")
        models = sorted(path.parent.name for path in folders)
        return [model.removeprefix(self._prefix) for model in models if self._bridge.is_ready(model)]


def _make_check(is_given_up: Callable[[], bool]) -> Callable[[], None]:
    def check() -> None:
        if is_given_up():
            raise Cancelled("the request was cancelled by its sender")

    return check
