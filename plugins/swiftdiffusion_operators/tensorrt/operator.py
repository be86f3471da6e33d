"""What a plugin must know of its operator, free of TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swiftdiffusion_operators.tensorrt.launch import GegluSizes, GroupNormSizes

Shape = Sequence[int]


@dataclass(frozen=True)
class Operator:
    """One ONNX node's plugin. Its one output has the number type of its inputs, which are all of one."""

    name: str  # of the ONNX node
    kernel: str  # module in ``swiftdiffusion_operators.kernels``
    sizes: Callable[[Sequence[Shape], Mapping[str, Any], bool], GroupNormSizes | GegluSizes]
    attributes: Mapping[str, type] = field(default_factory=dict)  # int or float, by their names in ONNX
    pictures: bool = False  # the first input and the output are pictures, which may be channels-last
    divisor: int = 1  # of the first input's last dimension, to give the output's
    absent: int = 0  # inputs that the kernel knows and this node leaves out; they come last
