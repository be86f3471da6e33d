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


class GroupedPatch:
    """Tables for `patch_tile`, and the tensors that they point to.

    The tile table depends on shapes alone and is remembered; the others are a few kB.
    """

    def __init__(self, patches: Sequence[WeightPatch], tiling: Tiling = TILING) -> None:
        groups: dict[Kind, list[Layer]] = defaultdict(list)
        for patch in patches:
            layer = Layer(patch)
            groups[layer.kind].append(layer)
        self._launches = [_Launch(kind, layers, tiling) for kind, layers in groups.items()]

        # made on one stream and read on another: the allocator must know before it hands their memory on
        parts = (part for launch in self._launches for part in launch.list_tensors())
        self._read = list({part.untyped_storage().data_ptr(): part for part in parts if part.is_cuda}.values())

    def run(self) -> None:
        """Write the live weights, on their device's current stream."""
        for tensor in self._read:
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
        for launch in self._launches:
            launch.run()


class _Launch:
    """The layers of one kind: one launch."""

    def __init__(self, kind: Kind, layers: Sequence[Layer], tiling: Tiling) -> None:
        device = layers[0].live.device
        self._layers = layers  # what the tables point to must live
        terms = [term for layer in layers for term in layer.terms]
        firsts = np.cumsum([0, *(len(layer.terms) for layer in layers[:-1])])
        described = [layer.describe(first) for layer, first in zip(layers, firsts.tolist(), strict=True)]
        self._tables = (
            _cut(tuple(tuple(layer.live.shape) for layer in layers), tiling.rows, tiling.columns, device),
            _upload(np.array(described, np.int64), device),
            _upload(np.array([_describe_term(term) for term in terms], np.int64).reshape(-1, 5), device),
            _upload(np.array([term.scale for term in terms], np.float32), device),
        )
        self._options = {
            "WEIGHT": TYPES[kind.weight], "FACTOR": TYPES[kind.factor],
            "ALIGNED": kind.aligned, "CHANGES": kind.changes, "FULL": kind.full,
            "ROWS": tiling.rows, "COLUMNS": tiling.columns, "DEPTH": tiling.depth,
            "num_warps": tiling.warps, "num_stages": tiling.stages,
        }  # fmt: skip

    def list_tensors(self) -> list[Tensor]:
        """What the kernel reads, without the pristine weights, which stay."""
        gains = [layer.gain for layer in self._layers if layer.gain is not None]
        return [*self._tables, *gains, *(factor for layer in self._layers for factor in layer.factors)]

    def run(self) -> None:
        """Enqueue."""
        with torch.cuda.device_of(self._tables[0]):  # where it is not the current one: Triton launches there
            patch_tile[(len(self._tables[0]),)](*self._tables, **self._options)


def _describe_term(term: Term) -> tuple[int, ...]:
    if term.up is None:
        return 0, 0, term.down.data_ptr(), term.down.stride(0), 0
    return term.up.data_ptr(), term.up.stride(0), term.down.data_ptr(), term.down.stride(0), term.down.shape[0]


@lru_cache(maxsize=LAYOUTS_KEPT)
def _cut(shapes: tuple[tuple[int, ...], ...], tile_rows: int, tile_columns: int, device: torch.device) -> Tensor:
    """The tile table of matrices of these shapes."""
    parts = []
    for layer, (rows, columns) in enumerate(shapes):
        grid = np.indices((triton.cdiv(rows, tile_rows), triton.cdiv(columns, tile_columns)), np.int32).reshape(2, -1)
        parts.append(np.stack([np.full(grid.shape[1], layer, np.int32), *grid], axis=1))
    return _upload(np.concatenate(parts), device)


def _upload(table: NDArray[Any], device: torch.device) -> Tensor:
    """Copy to the device without waiting for it."""
    tensor = torch.from_numpy(table)
    if device.type == "cpu":  # under Triton's interpreter
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
