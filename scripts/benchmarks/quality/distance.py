"""A perceptual distance with the features of the checkpoint's own VAE.

LPIPS (arXiv 1801.03924, eq. 1) compares a trained classifier's features, weighed by human judgements. No such weights
are here, so this is its unweighted form over the blocks of the VAE's encoder: it falls and rises with likeness, but its
figures cannot be compared with LPIPS figures of elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize


class FeatureDistance:
    """Distances between pictures uint8 [h, w, 3]; 0 for the same one."""

    def __init__(self, pipeline: Path) -> None:
        """Args: a diffusers folder whose VAE is used, on the CPU in fp32."""
        self._encoder = AutoencoderKL.from_pretrained(pipeline / "vae", torch_dtype=torch.float32).encoder.eval()

    @torch.inference_mode()
    def measure(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
        """Mean over the encoder's blocks and all places of the squared distance of features of unit length."""
        distances = [
            (normalize(one, dim=0) - normalize(other, dim=0)).square().sum(dim=0).mean().item()
            for one, other in zip(self._run(first), self._run(second), strict=True)
        ]
        return float(np.mean(distances))

    def _run(self, picture: NDArray[np.uint8]) -> Iterator[Tensor]:
        hidden = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 127.5 - 1
        hidden = self._encoder.conv_in(hidden)
        for block in self._encoder.down_blocks:
            hidden = block(hidden)
            yield hidden[0]
