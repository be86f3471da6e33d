"""What a Triton model takes and gives, declared once in code; ``config.pbtxt`` then needs none of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""A model's inputs or outputs by name."""


@dataclass(frozen=True)
class Port:
    """One input or output: Triton's data type (``TYPE_FP32`` …) and dimensions, -1 for any."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Signature:
    """A model's inputs and outputs."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def declare(config: Any, signature: Signature) -> Any:
    """Write `signature` into the configuration that Triton's ``auto_complete_config`` hands over."""
    for port in signature.inputs:
        entry = {"name": port.name, "data_type": port.data_type, "dims": list(port.dims)}
        config.add_input({**entry, "optional": True} if port.optional else entry)
    for port in signature.outputs:
        config.add_output({"name": port.name, "data_type": port.data_type, "dims": list(port.dims)})
    config.set_max_batch_size(0)
    return config
