"""Triton's requests and responses as arrays by name, for one model instance."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.configuration import read_configuration
from swiftdiffusion.errors import SwiftDiffusionError, describe
from swiftdiffusion.signature import Arrays
from swiftdiffusion.triton_bridge.caller import Caller

Configuration = TypeVar("Configuration")


class Bridge:
    """One model instance's way to and from Triton."""

    def __init__(self, pb_utils: Any, args: Mapping[str, str]) -> None:
        """Args: the stub's ``triton_python_backend_utils``, and what ``initialize`` got."""
        self._pb_utils = pb_utils
        self._args = args
        self._model_config: dict[str, Any] = json.loads(args["model_config"])

    @property
    def streams(self) -> bool:
        """Whether the model sends many responses to a request."""
        return self._pb_utils.using_decoupled_model_transaction_policy(self._model_config)

    @property
    def instance(self) -> tuple[str, int]:
        """The kind (CPU, GPU, MODEL) and device of this instance, from its ``instance_group``."""
        return self._args["model_instance_kind"], int(self._args["model_instance_device_id"])

    @property
    def model_repository(self) -> Path:
        """The folder that tritonserver serves."""
        return Path(self._args["model_repository"]).parent

    @property
    def final_flag(self) -> int:
        """Marks the last response that a sender sends."""
        return self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

    def configure(self, family: type[Configuration]) -> Configuration:
        """Read ``config.pbtxt``'s parameters as `family`; what is wrong with them keeps the model from loading."""
        parameters = {k: v["string_value"] for k, v in self._model_config.get("parameters", {}).items()}
        try:
            return read_configuration(family, parameters, self.model_repository)
        except SwiftDiffusionError as error:
            raise self._pb_utils.TritonModelException(f"{self._args['model_name']}: {error}") from None

    def open_caller(self, calls: int) -> Caller:
        """A way to call other models, `calls` of them at a time."""
        return Caller(self._pb_utils, calls)

    def is_ready(self, model: str) -> bool:
        """Whether the server would take a request for `model` now."""
        return self._pb_utils.is_model_ready(model)

    def list_models(self, prefix: str) -> list[str]:
        """The models of the repository whose names start with `prefix`, loaded or not, sorted."""
        return sorted(path.parent.name for path in self.model_repository.glob(f"{prefix}*/config.pbtxt"))

    def read(self, request: Any) -> dict[str, NDArray[Any]]:
        """The inputs that were sent, on the host."""
        return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}

    def read_parameters(self, request: Any) -> dict[str, Any]:
        """The request's parameters; between our models they carry what is not the user's to say."""
        return json.loads(request.parameters() or "{}")

    def respond(self, outputs: Arrays) -> Any:
        """A response with these outputs."""
        tensors = [self._pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in outputs.items()]
        return self._pb_utils.InferenceResponse(tensors)

    def refuse(self, error: Exception) -> Any:
        """A response with the error's code and sentence; a fault of ours is logged with its trace."""
        code = error.code if isinstance(error, SwiftDiffusionError) else "INTERNAL"
        if code == "INTERNAL":
            logging.getLogger("swiftdiffusion").error("request failed", exc_info=error)
        triton_code = getattr(self._pb_utils.TritonError, code)
        return self._pb_utils.InferenceResponse([], error=self._pb_utils.TritonError(describe(error), triton_code))
