"""How alike two pictures, or two sets of latents, are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import cosine_similarity

SIGMA = 1.5  # pixels: the paper's window
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def measure_ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Structural similarity (Wang et al. 2004, eq. 13) of two uint8 [h, w, 3] pictures, mean over pixels and channels.

    1 for the same picture, about 0 for two that have nothing in common.
    """

    def blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(values, (SIGMA, SIGMA, 0), truncate=3.5)

    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return float((likeness / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))).mean())


def measure_cosine(first: Tensor, second: Tensor) -> float:
    """Mean cosine similarity of latents [n, ...], each flattened."""
    return cosine_similarity(first.float().flatten(1), second.float().flatten(1)).mean().item()
