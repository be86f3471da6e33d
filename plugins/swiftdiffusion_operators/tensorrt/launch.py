"""How a plugin asks for a kernel: raw addresses, sizes, number type, stream, workspace.

Each operator's kernel module, ``swiftdiffusion_operators.kernels.<operator>``, has a function ``launch`` of the
type `Launch`. It only enqueues: no allocation, no synchronisation, so that a CUDA graph can capture it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeVar

import torch

Sizes = TypeVar("Sizes", contravariant=True)


class Launch(Protocol[Sizes]):
    """Enqueues an operator's kernels."""

    def __call__(
        self, addresses: Sequence[int], sizes: Sizes, dtype: torch.dtype, stream: int, workspace: int
    ) -> None:
        """Enqueue.

        Args:
            addresses: device addresses of the inputs, then of the outputs, each dense and aligned to 16 bytes; in
                the operator's order, 0 for an input that is left out.
            sizes: the operator's own sizes.
            dtype: of all inputs and outputs (fp16 or fp32).
            stream: a ``cudaStream_t`` of the current device.
            workspace: address of scratch memory on the device, of the bytes that the operator's plugin asks for;
                its contents are nobody's.
        """


@dataclass(frozen=True)
class GroupNormSizes:
    """``group_norm_silu``: addresses of x, weight [channels], bias [channels], shift [batch, channels] or 0, y."""

    batch: int
    channels: int
    pixels: int
    groups: int
    eps: float
    silu: bool
    channels_last: bool  # x and y are [batch, pixels, channels], else [batch, channels, pixels]

    @property
    def workspace_bytes(self) -> int:
        """Room for two fp32 sums of up to 64 parts of every group."""
        return 64 * 2 * 4 * self.batch * self.groups


@dataclass(frozen=True)
class GegluSizes:
    """``geglu``: addresses of x [rows, 2 features], y [rows, features]."""

    rows: int
    features: int

    @property
    def workspace_bytes(self) -> int:
        """None."""
        return 0


def find_launch(operator: str) -> Launch[Any]:
    """The launch function of an operator's kernel module."""
    return import_module(f"swiftdiffusion_operators.kernels.{operator}").launch
