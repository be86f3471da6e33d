"""LoRAs into weights: all weights of a network at once, each from its pristine copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from swiftdiffusion_operators.factor_table import FactorTable
from swiftdiffusion_operators.weight_patch import Term, WeightPatch


class Patch(Protocol):
    """A patch ready to run, as often as wanted."""

    def run(self) -> None:
        """Write the live weights, in order with what their device's current stream has."""


class DescribedWeights(Protocol):
    """Weights whose patches need not be described one by one."""

    def prepare(self, loras: Sequence[FactorTable]) -> Patch | None:
        """As `prepare_patch`, for patches that change each of them; None for LoRAs that it must describe."""


def prepare_patch(patches: Sequence[WeightPatch]) -> Patch:
    """Do all that can be done before the weights are written.

    On a GPU this builds the kernel's tables, on its current stream and without waiting for it; `run` is then one
    launch (one more for each further dtype, and for weights whose sizes are no multiples of 8).

    Args:
        patches: the weights of one device, each at most once.

    Raises:
        ValueError: a live weight whose rows do not lie in one piece.
    """
    if not patches or patches[0].live.device.type == "cpu":
        return PlainPatch(patches)
    from swiftdiffusion_operators.kernels.lora_launch import GroupedPatch

    return GroupedPatch(patches)


def describe_weights(weights: Sequence[tuple[Tensor, Tensor]]) -> DescribedWeights | None:
    """Describe the live and pristine weights of one device once, for all patches to come.

    None where there is no such way: without a GPU, and for others than matrices of one dtype with aligned rows.
    """
    if not weights or weights[0][0].device.type != "cuda":
        return None
    from swiftdiffusion_operators.kernels.lora_matrices import MatrixWeights

    return MatrixWeights(weights) if MatrixWeights.fit(weights) else None


def compile_patch(device: torch.device, dtype: torch.dtype) -> None:
    """Have the kernels ready for weights of `dtype`, so that no request waits for their compilation; a GPU's only."""
    if device.type != "cuda":
        return
    live = torch.zeros(64, 64, dtype=dtype, device=device)
    pristine = live.clone()
    prepare_patch([WeightPatch(live, pristine)]).run()
    for factor in (torch.float16, torch.bfloat16, torch.float32):
        term = Term(live[:16].to(factor), live[:, :16].to(factor).contiguous(), 1.0)
        prepare_patch([WeightPatch(live, pristine, (term,))]).run()


class PlainPatch:
    """A patch by torch's own operators, one weight after the other: for the CPU, and to compare with."""

    def __init__(self, patches: Sequence[WeightPatch]) -> None:
        self._patches = tuple(patches)

    @torch.no_grad()
    def run(self) -> None:
        """Write the live weights."""
        for patch in self._patches:
            if not patch.terms and patch.gain is None:
                patch.live.copy_(patch.pristine)
                continue
            base = patch.pristine.float()
            if patch.gain is not None:
                base = base * patch.gain.reshape(-1, *(1 for _ in base.shape[1:]))
            patch.live.copy_(base + sum_terms(patch.terms, base.shape, base.device))


def sum_terms(terms: Sequence[Term], shape: Sequence[int], device: torch.device) -> Tensor:
    """Σ scale · up · down in fp32 of `shape`, in the terms' order.

    Each product is summed on its own: the sum of the ups times the sum of the downs would be another matrix.
    """
    rows = shape[0]
    columns = int(torch.Size(shape[1:]).numel())
    total = torch.zeros(rows, columns, dtype=torch.float32, device=device)
    for term in terms:
        down = term.down.flatten(1).to(device, torch.float32)
        if term.up is None:
            total.add_(down, alpha=term.scale)
        else:
            total.addmm_(term.up.flatten(1).to(device, torch.float32), down, alpha=term.scale)
    return total.reshape(tuple(shape))
