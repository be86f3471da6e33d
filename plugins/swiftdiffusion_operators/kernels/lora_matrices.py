"""Patches of plain matrices by LoRAs in one block each: their tables are made of arrays, not layer by layer.

While LoRAs arrive a lane denoises, and both share the interpreter: to describe SDXL's 560 attention projections one by
one takes it 8 ms a LoRA and GPU on a quick host, twice that on others, and as tables half a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion_operators.factor_table import FactorTable
from swiftdiffusion_operators.kernels.lora_launch import TYPES, Launch, LaunchedPatch, cut, upload
from swiftdiffusion_operators.kernels.lora_layers import ALIGNMENT, SMALLEST_SCALE, Kind, Layer, is_aligned
from swiftdiffusion_operators.kernels.lora_patch import TILING, Tiling
from swiftdiffusion_operators.weight_patch import WeightPatch


class MatrixWeights:
    """Weights of one device and dtype, described once for all patches that change each of them."""

    def __init__(self, weights: Sequence[tuple[Tensor, Tensor]], tiling: Tiling = TILING) -> None:
        """Args: live and pristine weights, as `fit` has them, and the kernel's tiling."""
        layers = [Layer(WeightPatch(live, pristine)) for live, pristine in weights]
        self._weights = weights
        self._tiling = tiling
        self._rows = np.array([layer.describe(0) for layer in layers], np.int64)
        self._tiles = cut(tuple(tuple(layer.live.shape) for layer in layers), tiling, layers[0].live.device)

    @staticmethod
    def fit(weights: Sequence[tuple[Tensor, Tensor]]) -> bool:
        """Whether these can be described so: matrices of one dtype, whose rows lie in one piece and are aligned."""
        return len({weight.dtype for pair in weights for weight in pair}) == 1 and all(
            weight.dim() == 2 and weight.stride(1) == 1 and is_aligned(weight) for pair in weights for weight in pair
        )

    def prepare(self, loras: Sequence[FactorTable]) -> LaunchedPatch | None:
        """The patch ``live = pristine + Σ terms``, in the LoRAs' order, as `prepare_patch` has it.

        None for what must be described term by term: factors of several dtypes or of odd sizes, scales that count as
        none, a weight that no LoRA changes.
        """
        device = self._tiles.device
        weights = np.concatenate([lora.weights for lora in loras])
        scales = np.concatenate([lora.scales for lora in loras])
        places = np.concatenate([lora.places for lora in loras])
        counts = np.bincount(weights, minlength=len(self._rows))
        dtypes = {lora.dtype for lora in loras}
        fits = len(dtypes) == 1 and dtypes <= TYPES.keys() and counts.all() and not (places[:, 2:] % 8).any()
        if not fits or (np.abs(scales) < SMALLEST_SCALE).any():
            return None
        order = np.argsort(weights, kind="stable")  # a weight's terms side by side, the first LoRA's first
        terms = np.concatenate([_describe_terms(lora) for lora in loras])[order]
        if (terms[:, (0, 2)] % ALIGNMENT).any():
            return None
        rows = self._rows.copy()
        rows[:, 7], rows[:, 8] = np.cumsum(counts) - counts, counts
        (dtype,) = dtypes
        kind = Kind(self._weights[0][0].dtype, dtype, aligned=True, changes=True, full=False)
        tables = (
            self._tiles,
            upload(rows, device),
            upload(terms, device),
            upload(scales[order].astype(np.float32), device),
        )
        launch = Launch(kind, tables, [lora.block for lora in loras], self._tiling)
        return LaunchedPatch([launch], self._weights)


def _describe_terms(lora: FactorTable) -> NDArray[np.int64]:
    """Rows of the term table [terms, 5]."""
    up, down, rank, columns = lora.places.T
    start = lora.block.data_ptr()
    return np.stack([start + up, rank, start + down, columns, rank], axis=1)
