"""diffusers behind Triton as a plain Python model: one call of a pipeline for each request."""

from __future__ import annotations

import locale
import sys
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))  # the stub ignores PYTHONPATH, benchmarks aren't installed

from benchmarks.serving.diffusers_model import DiffusersModel, declare_ports
from swiftdiffusion.triton_bridge.bridge import Bridge


class TritonPythonModel:
    """Triton's view of it."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Take the same inputs as `swiftdiffusion`, so that the same requests go to both."""
        return declare_ports(config)

    def initialize(self, args: dict[str, str]) -> None:
        """Load the pipeline."""
        # the stub leaves it at C, in which files are ASCII: torch's compiler then cannot read its own templates
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        self._bridge = Bridge(pb_utils, args)
        self._model = DiffusersModel(self._bridge)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer one after the other."""
        responses = []
        for request in requests:
            try:
                responses.append(self._bridge.respond(self._model.answer(self._bridge.read(request))))
            except Exception as error:  # every fault becomes an answer
                responses.append(self._bridge.refuse(error))
        return responses
