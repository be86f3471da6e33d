"""The patch's launches: one for all layers of a kind, with their tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion_operators.kernels.lora_layers import Kind, Layer
from swiftdiffusion_operators.kernels.lora_patch import TILING, Tiling, patch_tile
from swiftdiffusion_operators.weight_patch import Term, WeightPatch

LAYOUTS_KEPT = 32  # tile tables, about 0.7 MB each for every attention of SDXL
TYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


class Launch:
    """The layers of one kind: one launch."""

    def __init__(self, kind: Kind, tables: tuple[Tensor, ...], read: Sequence[Tensor], tiling: Tiling) -> None:
        """Args: the layers' kind, tiles, layers, terms and scales on their device, and what the terms point to."""
        self._tables = tables
        self._read = read
        self._options = {
            "WEIGHT": TYPES[kind.weight], "FACTOR": TYPES[kind.factor],
            "ALIGNED": kind.aligned, "CHANGES": kind.changes, "FULL": kind.full,
            "ROWS": tiling.rows, "COLUMNS": tiling.columns, "DEPTH": tiling.depth,
            "num_warps": tiling.warps, "num_stages": tiling.stages,
        }  # fmt: skip

    def list_tensors(self) -> list[Tensor]:
        """What the kernel reads, without the pristine weights, which stay."""
        return [*self._tables, *self._read]

    def run(self) -> None:
        """Enqueue."""
        with torch.cuda.device_of(self._tables[0]):  # where it is not the current one: Triton launches there
            patch_tile[(len(self._tables[0]),)](*self._tables, **self._options)


class LaunchedPatch:
    """Launches of `patch_tile`, and all that their tables point to, which lives as long."""

    def __init__(self, launches: Sequence[Launch], weights: object) -> None:
        """Args: the launches, and whatever holds the weights, live and pristine."""
        self._launches = launches
        self._weights = weights
        # made on one stream and read on another: the allocator must know before it hands their memory on
        parts = (part for launch in launches for part in launch.list_tensors())
        self._read = list({part.untyped_storage().data_ptr(): part for part in parts if part.is_cuda}.values())

    def run(self) -> None:
        """Write the live weights, on their device's current stream."""
        for tensor in self._read:
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
        for launch in self._launches:
            launch.run()


class GroupedPatch(LaunchedPatch):
    """Patches of any form, described tensor by tensor.

    The tile table depends on shapes alone and is remembered; the others are a few kB.
    """

    def __init__(self, patches: Sequence[WeightPatch], tiling: Tiling = TILING) -> None:
        groups: dict[Kind, list[Layer]] = defaultdict(list)
        for patch in patches:
            layer = Layer(patch)
            groups[layer.kind].append(layer)
        super().__init__([_launch(kind, layers, tiling) for kind, layers in groups.items()], groups)


def _launch(kind: Kind, layers: Sequence[Layer], tiling: Tiling) -> Launch:
    device = layers[0].live.device
    terms = [term for layer in layers for term in layer.terms]
    firsts = np.cumsum([0, *(len(layer.terms) for layer in layers[:-1])])
    described = [layer.describe(first) for layer, first in zip(layers, firsts.tolist(), strict=True)]
    tables = (
        cut(tuple(tuple(layer.live.shape) for layer in layers), tiling, device),
        upload(np.array(described, np.int64), device),
        upload(np.array([_describe_term(term) for term in terms], np.int64).reshape(-1, 5), device),
        upload(np.array([term.scale for term in terms], np.float32), device),
    )
    gains = [layer.gain for layer in layers if layer.gain is not None]
    return Launch(kind, tables, [*gains, *(factor for layer in layers for factor in layer.factors)], tiling)


def _describe_term(term: Term) -> tuple[int, ...]:
    if term.up is None:
        return 0, 0, term.down.data_ptr(), term.down.stride(0), 0
    return term.up.data_ptr(), term.up.stride(0), term.down.data_ptr(), term.down.stride(0), term.down.shape[0]


@lru_cache(maxsize=LAYOUTS_KEPT)
def cut(shapes: tuple[tuple[int, ...], ...], tiling: Tiling, device: torch.device) -> Tensor:
    """The tile table of matrices of these shapes."""
    parts = []
    for layer, (rows, columns) in enumerate(shapes):
        extent = triton.cdiv(rows, tiling.rows), triton.cdiv(columns, tiling.columns)
        grid = np.indices(extent, np.int32).reshape(2, -1)
        parts.append(np.stack([np.full(grid.shape[1], layer, np.int32), *grid], axis=1))
    return upload(np.concatenate(parts), device)


def upload(table: NDArray[Any], device: torch.device) -> Tensor:
    """Copy to the device without waiting for it."""
    tensor = torch.from_numpy(table)
    if device.type == "cpu":  # under Triton's interpreter
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
