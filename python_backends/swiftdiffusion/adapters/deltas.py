"""The change that LoRAs make to one weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Factors:
    """One layer of a LoRA: the two factors and alpha / rank.

    `down` (A) is [rank, in] or, for a convolution, [rank, in, height, width]; `up` (B) is
    [out, rank] or [out, rank, 1, 1]. Any floating dtype, host or device.
    """

    down: torch.Tensor
    up: torch.Tensor
    strength: float


def delta(
    terms: Sequence[tuple[Factors, float]], shape: Sequence[int], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Sum scaleᵢ · (alphaᵢ / rankᵢ) · Bᵢ Aᵢ over `terms`, pairs (factors, scale), in their order.

    Each product is summed on its own (LoRA, arXiv 2106.09685, eq. 3): the sum of the Bs times the
    sum of the As would be another matrix. A convolution's up factor is 1x1, so its two
    convolutions in a row are the one with the kernel B·A, flattened and shaped back.

    Returns float32 of `shape` on `device`, where factors that lie elsewhere are copied to.
    """
    rows = shape[0]
    columns = int(torch.Size(shape[1:]).numel())
    total = torch.zeros(rows, columns, dtype=torch.float32, device=device)
    for factors, scale in terms:
        up, down = (part.flatten(1).to(device, torch.float32) for part in (factors.up, factors.down))
        total.addmm_(up, down, alpha=scale * factors.strength)
    return total.reshape(tuple(shape))
