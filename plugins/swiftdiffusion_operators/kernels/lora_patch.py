"""LoRAs into weights on a GPU: one launch for all weights, from tables of addresses that lie on the device.

A weight is a matrix of [out, the rest in the order of its memory], cut into tiles. Three tables say what to do:

    tiles  int32 [tiles, 3]    the layer, and which block of its rows and of its columns
    layers int64 [layers, 9]   addresses, row strides (elements) and sizes of live and pristine weight, its terms
    terms  int64 [terms, 5]    addresses and row strides (elements) of the factors, and the rank, 0 for a full matrix

The first depends on shapes alone and is remembered; the others are a few kB.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from swiftdiffusion_operators.lora_patch import Term, WeightPatch

ALIGNMENT = 16  # bytes that a GPU loads at once
SMALLEST_SCALE = 1e-20  # what is smaller leaves no trace in fp32, and the kernel divides by scales
LAYOUTS_KEPT = 32  # tile tables, about 0.7 MB each for every attention of SDXL
TYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


@dataclass(frozen=True)
class Tiling:
    """What one program does: a tile, how much of a rank in one product, with so many warps and loads ahead.

    The patch waits for memory: what counts is how many tiles an SM holds at a time, so registers are scarce (80 of
    them a thread as it is, three programs an SM on a GPU of compute capability 9.0).
    """

    rows: int = 64
    columns: int = 128
    depth: int = 32
    warps: int = 8
    stages: int = 2


TILING = Tiling()


@triton.jit
def patch_tile(
    tiles, layers, terms, scales,
    WEIGHT: tl.constexpr, FACTOR: tl.constexpr, ALIGNED: tl.constexpr, CHANGES: tl.constexpr, FULL: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """live = gain · pristine + Σ scale · up · down for one tile."""
    tile = tiles + tl.program_id(0).to(tl.int64) * 3
    layer = layers + tl.load(tile).to(tl.int64) * 9
    first_row, first_column = tl.load(tile + 1) * ROWS, tl.load(tile + 2) * COLUMNS
    # within a tile 32 bits are enough, which halves the registers that addresses take
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    in_rows = (row < tl.load(layer + 4).to(tl.int32) - first_row)[:, None]
    in_columns = (column < _align(tl.load(layer + 5), ALIGNED) - first_column)[None, :]

    stride = _align(tl.load(layer + 3), ALIGNED)
    pristine = _point(tl.load(layer + 2), first_row * stride.to(tl.int64), WEIGHT, ALIGNED) + first_column
    # read once: the factors, which the neighbours read too, shall stay in the L2 cache
    weight = tl.load(
        pristine + (row[:, None] * stride + column[None, :]),
        mask=in_rows & in_columns, other=0.0, eviction_policy="evict_first",
    )  # fmt: skip

    if CHANGES:
        # in units of the last term's scale: one set of sums is all that the registers must hold
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        unit = 1.0
        first = tl.load(layer + 7)
        for index in range(first, first + tl.load(layer + 8)):
            term = terms + index * 5
            rank = tl.load(term + 4).to(tl.int32)
            scale = tl.load(scales + index)
            total *= unit / scale
            unit = scale
            down_stride = _align(tl.load(term + 3), ALIGNED)
            if FULL and rank == 0:
                down = _point(tl.load(term + 2), first_row * down_stride.to(tl.int64), FACTOR, ALIGNED) + first_column
                at = row[:, None] * down_stride + column[None, :]
                total += tl.load(down + at, mask=in_rows & in_columns, other=0.0).to(tl.float32)
            width = tl.cdiv(rank, 8) * 8  # of the up factor, which has zeros beyond the rank
            up_stride = _align(tl.load(term + 1), ALIGNED)
            up = _point(tl.load(term), first_row * up_stride.to(tl.int64), FACTOR, ALIGNED)
            for start in range(0, rank, DEPTH):
                down = _point(tl.load(term + 2), start * down_stride.to(tl.int64), FACTOR, ALIGNED) + first_column
                depth = tl.arange(0, DEPTH)
                left = tl.load(
                    up + start + (row[:, None] * up_stride + depth[None, :]),
                    mask=in_rows & (depth < width - start)[None, :], other=0.0,
                )  # fmt: skip
                right = tl.load(
                    down + (depth[:, None] * down_stride + column[None, :]),
                    mask=(depth < rank - start)[:, None] & in_columns, other=0.0,
                )  # fmt: skip
                total = tl.dot(left, right, total, input_precision="tf32x3")
        gain = tl.load(layer + 6).to(tl.pointer_type(tl.float32))
        gains = tl.load(gain + first_row + row[:, None], mask=in_rows & (tl.load(layer + 6) != 0), other=1.0)
        weight = (weight.to(tl.float32) * gains + total * unit).to(WEIGHT)

    stride = _align(tl.load(layer + 1), ALIGNED)
    live = _point(tl.load(layer), first_row * stride.to(tl.int64), WEIGHT, ALIGNED) + first_column
    tl.store(live + (row[:, None] * stride + column[None, :]), weight, mask=in_rows & in_columns)


# What a table holds the compiler cannot know: where it is told, it moves 16 bytes at a time.
@triton.jit
def _point(address, offset, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    pointer = address.to(tl.pointer_type(TYPE))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer + offset


@triton.jit
def _align(elements, ALIGNED: tl.constexpr):
    elements = elements.to(tl.int32)
    if ALIGNED:
        elements = elements // 8 * 8  # a hint on what was loaded does not outlive the compiler's passes
    return elements


class GroupedPatch:
    """Tables for `patch_tile`, and the tensors that they point to."""

    def __init__(self, patches: Sequence[WeightPatch], tiling: Tiling = TILING) -> None:
        groups: dict[_Kind, list[_Layer]] = defaultdict(list)
        for patch in patches:
            layer = _Layer(patch)
            groups[layer.kind].append(layer)
        self._launches = [_Launch(kind, layers, tiling) for kind, layers in groups.items()]

        # made on one stream and read on another: the allocator must know before it hands their memory on
        parts = (part for launch in self._launches for part in launch.list_tensors())
        self._read = list({part.untyped_storage().data_ptr(): part for part in parts if part.is_cuda}.values())

    def run(self) -> None:
        """Write the live weights, on the current stream."""
        for tensor in self._read:
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
        for launch in self._launches:
            launch.run()


class _Kind(NamedTuple):
    """What the kernel is compiled for."""

    weight: torch.dtype
    factor: torch.dtype
    aligned: bool
    changes: bool
    full: bool


class _Layer:
    """One weight as a matrix, and its factors in the same order of columns."""

    def __init__(self, patch: WeightPatch) -> None:
        if patch.live.dim() == 2 and patch.live.stride(0) == 1 < patch.live.stride(1):
            patch = _transpose(patch)  # as TensorRT keeps the weights of its matrix products
        order = _memory_order(patch.live)
        self.live, self.pristine = _as_matrix(patch.live, order), _as_matrix(patch.pristine, order)
        terms = [_arrange(term, order) for term in patch.terms if abs(term.scale) >= SMALLEST_SCALE]
        dtypes = {term.down.dtype for term in terms} or {patch.live.dtype}
        # where LoRAs of one weight have different dtypes, all get one that holds each exactly
        dtype = reduce(torch.promote_types, dtypes)
        self.terms = terms if len(dtypes) == 1 else [_cast(term, dtype) for term in terms]
        self.gain = patch.gain
        self.factors = [part for term in self.terms for part in (term.down, term.up) if part is not None]
        self.kind = _Kind(
            weight=patch.live.dtype,
            factor=dtype,
            aligned=all(_is_aligned(matrix) for matrix in (self.live, self.pristine, *self.factors)),
            changes=bool(self.terms) or self.gain is not None,
            full=any(term.up is None for term in self.terms),
        )

    def describe(self, first_term: int) -> tuple[int, ...]:
        """The row of the layer table."""
        gain = 0 if self.gain is None else self.gain.data_ptr()
        weights = (number for w in (self.live, self.pristine) for number in (w.data_ptr(), w.stride(0)))
        return *weights, *self.live.shape, gain, first_term, len(self.terms)


class _Launch:
    """The layers of one kind: one launch."""

    def __init__(self, kind: _Kind, layers: Sequence[_Layer], tiling: Tiling) -> None:
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
        patch_tile[(len(self._tables[0]),)](*self._tables, **self._options)


def _transpose(patch: WeightPatch) -> WeightPatch:
    """The same patch of the transposed matrix, whose columns a gain would scale: it becomes a term of its own."""
    terms = [
        Term(term.down.T.contiguous(), None, term.scale)
        if term.up is None
        else Term(term.up.T.contiguous(), term.down.T.contiguous(), term.scale)
        for term in patch.terms
    ]
    if patch.gain is not None:
        terms.append(Term(((patch.gain - 1)[:, None] * patch.pristine.to(patch.gain)).T.contiguous(), None, 1.0))
    return WeightPatch(patch.live.T, patch.pristine.T, tuple(terms))


# A loader's thread does the following for hundreds of layers, and shares the interpreter with the one that denoises:
# for matrices, which nearly all are, torch is asked for as little as can be.
def _memory_order(weight: Tensor) -> list[int]:
    """The dimensions, the first ahead and the others by falling stride."""
    if weight.dim() == 2:
        return [0, 1]
    return [0, *sorted(range(1, weight.dim()), key=lambda dim: -weight.stride()[dim])]


def _as_matrix(weight: Tensor, order: list[int]) -> Tensor:
    """A view [out, the rest in `order`] whose rows lie in one piece."""
    try:
        matrix = weight if weight.dim() == 2 else weight.permute(order).view(weight.shape[0], -1)
    except RuntimeError:
        matrix = None
    if matrix is None or matrix.stride(1) != 1:
        raise ValueError(f"a weight of shape {tuple(weight.shape)} and strides {weight.stride()} has rows with gaps")
    return matrix


def _arrange(term: Term, order: list[int]) -> Term:
    """The factors as matrices, the columns in the weight's order; the up factor as wide as the kernel reads it."""
    down = _make_rows(term.down if term.down.dim() == 2 else term.down.permute(order))
    if term.up is None:
        return Term(down, None, term.scale)
    up = _make_rows(term.up)
    if not _is_aligned(up):
        up = pad(up, (0, triton.cdiv(up.shape[1], 8) * 8 - up.shape[1])).contiguous()
    return Term(down, up, term.scale)


def _make_rows(factor: Tensor) -> Tensor:
    """A matrix [the first dimension, the rest] whose rows lie in one piece."""
    is_one = factor.dim() == 2 and factor.stride(1) == 1
    return factor if is_one else factor.reshape(factor.shape[0], -1).contiguous()


def _cast(term: Term, dtype: torch.dtype) -> Term:
    return Term(term.down.to(dtype), None if term.up is None else term.up.to(dtype), term.scale)


def _is_aligned(matrix: Tensor) -> bool:
    return matrix.data_ptr() % ALIGNMENT == 0 and matrix.stride(0) % 8 == 0 and matrix.shape[1] % 8 == 0


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
