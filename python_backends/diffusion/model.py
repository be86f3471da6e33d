"""The `diffusion` backend: a lane, or a relay to one where the model streams."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils

from swiftdiffusion.request import ports
from swiftdiffusion.signature import declare
from swiftdiffusion.triton_bridge.bridge import Bridge


class TritonPythonModel:
    """Triton's view of one instance."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Declare inputs and outputs, so that ``config.pbtxt`` need not."""
        streams = pb_utils.using_decoupled_model_transaction_policy(config.as_dict())
        return declare(config, ports.STREAM_MODEL if streams else ports.PICTURE_MODEL)

    def initialize(self, args: dict[str, str]) -> None:
        """Load the UNet, or nothing for the relay."""
        bridge = Bridge(pb_utils, args)
        # the relay needs no torch: its process starts in a moment and stays small
        if bridge.streams:
            from swiftdiffusion.triton_bridge.stream_model import StreamModel

            self._model: Any = StreamModel(bridge)
        else:
            from swiftdiffusion.triton_bridge.lane_model import LaneModel

            self._model = LaneModel(bridge)

    def execute(self, requests: list[Any]) -> None:
        """Serve requests one after the other; each is answered by its own sender."""
        self._model.execute(requests)

    def finalize(self) -> None:
        """Let go of threads."""
        self._model.close()
