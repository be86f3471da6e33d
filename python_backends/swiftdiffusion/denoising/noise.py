"""The noise that a picture begins with."""

import torch
from torch import Tensor


def draw_noise(generator: torch.Generator, channels: int, height: int, width: int) -> Tensor:
    """Noise [1, channels, height, width] of latents in fp32, on the CPU, so that a seed gives the same everywhere."""
    return torch.randn((1, channels, height, width), generator=generator)
