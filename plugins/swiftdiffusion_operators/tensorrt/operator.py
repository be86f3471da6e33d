"""What a plugin must know of its operator, free of TensorRT."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Pointer:
    """Device memory as the kernels take it in a tensor's place."""

    address: int
    dtype: torch.dtype

    def data_ptr(self) -> int:
        """The address."""
        return self.address

    def advance(self, count: int) -> Pointer:
        """What lies `count` bytes further on."""
        return Pointer(self.address + count, self.dtype)


@dataclass(frozen=True)
class Call:
    """One execution of a node."""

    shapes: Sequence[Shape]  # of the inputs, always [batch, channels, height, width] for a picture
    channels_last: bool  # how the pictures among inputs and output lie in memory
    inputs: Sequence[Any]  # of `Pointer`, which kernels take in a tensor's place; so are the next two
    output: Any
    workspace: Any  # fp32, of any content


class Operator(ABC):
    """The plugin of one ONNX node. Its one output has the number type of its inputs, which all have the same."""

    name: ClassVar[str]  # of the node
    attributes: ClassVar[Mapping[str, type]] = {}  # int or float, by their names in ONNX
    has_pictures: ClassVar[bool] = False  # the first input and the output are pictures, which may be channels-last
    divides_last: ClassVar[int] = 1  # how much shorter the output's last dimension is than the first input's

    def workspace_bytes(self, shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> int:
        """Scratch memory for inputs of these shapes or any smaller ones."""
        return 0

    @abstractmethod
    def launch(self, call: Call, attributes: Mapping[str, Any]) -> None:
        """Enqueue the kernels on torch's current stream, without allocating or waiting: a CUDA graph may capture it."""

    def enqueue(
        self,
        shapes: Sequence[Shape],
        channels_last: bool,
        dtype: torch.dtype,
        inputs: Sequence[int],
        output: int,
        workspace: int,
        stream: int,
        attributes: Mapping[str, Any],
    ) -> None:
        """Enqueue the kernels on raw memory and a raw stream.

        Args:
            shapes: of the inputs.
            channels_last: how pictures lie in memory.
            dtype: of inputs and output, fp16 or fp32.
            inputs: device addresses.
            output: its device address.
            workspace: device address of at least `workspace_bytes`.
            stream: a ``cudaStream_t`` of torch's current device.
            attributes: the node's.
        """
        call = Call(
            shapes,
            channels_last,
            [Pointer(address, dtype) for address in inputs],
            Pointer(output, dtype),
            Pointer(workspace, torch.float32),
        )
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            self.launch(call, attributes)
