"""Weights and their LoRAs' factors as the patch's kernel reads them: matrices whose rows lie in one piece."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from swiftdiffusion_operators.weight_patch import Term, WeightPatch

ALIGNMENT = 16  # bytes that a GPU loads at once
SMALLEST_SCALE = 1e-20  # what is smaller leaves no trace in fp32, and the kernel divides by scales


class Kind(NamedTuple):
    """What the kernel is compiled for."""

    weight: torch.dtype
    factor: torch.dtype
    aligned: bool
    changes: bool
    full: bool


class Layer:
    """One weight as a matrix, and its factors in the same order of columns."""

    def __init__(self, patch: WeightPatch) -> None:
        if patch.live.dim() == 2 and patch.live.stride(0) == 1 < patch.live.stride(1):
            patch = _transpose(patch)  # as TensorRT keeps the weights of its matrix products
        order = _memory_order(patch.live)
        self.live, self.pristine = _as_matrix(patch.live, order), _as_matrix(patch.pristine, order)
        terms = [_arrange(term, order) for term in patch.terms if abs(term.scale) >= SMALLEST_SCALE]
        dtypes = {factor.dtype for term in terms for factor in term.factors} or {patch.live.dtype}
        # where they differ (several LoRAs, or a DoRA's up factor, which is scaled), all get one that holds each exactly
        dtype = reduce(torch.promote_types, dtypes)
        dtype = torch.float32 if dtype == torch.float64 else dtype  # the sums are no wider
        self.terms = terms if dtypes == {dtype} else [_cast(term, dtype) for term in terms]
        self.gain = patch.gain
        self.factors = [factor for term in self.terms for factor in term.factors]
        self.kind = Kind(
            weight=patch.live.dtype,
            factor=dtype,
            aligned=all(is_aligned(matrix) for matrix in (self.live, self.pristine, *self.factors)),
            changes=bool(self.terms) or self.gain is not None,
            full=any(term.up is None for term in self.terms),
        )

    def describe(self, first_term: int) -> tuple[int, ...]:
        """The row of the layer table."""
        gain = 0 if self.gain is None else self.gain.data_ptr()
        weights = (number for w in (self.live, self.pristine) for number in (w.data_ptr(), w.stride(0)))
        return *weights, *self.live.shape, gain, first_term, len(self.terms)


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
    if not is_aligned(up):
        up = pad(up, (0, -up.shape[1] % 8)).contiguous()
    return Term(down, up, term.scale)


def _make_rows(factor: Tensor) -> Tensor:
    """A matrix [the first dimension, the rest] whose rows lie in one piece."""
    is_one = factor.dim() == 2 and factor.stride(1) == 1
    return factor if is_one else factor.reshape(factor.shape[0], -1).contiguous()


def _cast(term: Term, dtype: torch.dtype) -> Term:
    return Term(term.down.to(dtype), None if term.up is None else term.up.to(dtype), term.scale)


def is_aligned(matrix: Tensor) -> bool:
    """Whether the kernel can move all of it in pieces of `ALIGNMENT`."""
    return matrix.data_ptr() % ALIGNMENT == 0 and matrix.stride(0) % 8 == 0 and matrix.shape[1] % 8 == 0
