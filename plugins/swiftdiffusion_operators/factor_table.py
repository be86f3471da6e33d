"""LoRAs of matrices in one block of memory, as numbers: what takes a thousand tensors to say one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FactorTable:
    """One LoRA's terms ``scale · up · down`` for several weights [out, in]; rows of all factors lie in one piece.

    `block` is uint8 on the weights' device and holds every factor, up [out, rank] and down [rank, in], in `dtype`.
    """

    block: Tensor
    dtype: torch.dtype
    places: NDArray[np.int64]
    """[terms, 4]: bytes from the block's start to the up and to the down factor, the rank, and `in`."""
    weights: NDArray[np.int64]
    """[terms]: the place of the weight that each changes, in whichever list of weights this is for."""
    scales: NDArray[np.float64]
    """[terms]."""
