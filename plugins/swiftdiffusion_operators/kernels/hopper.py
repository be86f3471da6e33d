"""What the kernels for Hopper's GPUs have in common: they are written in that generation's own instructions."""

from __future__ import annotations

import torch

GROUP_WARPS = 4  # that multiply together, as the instruction wants them
COMPUTE_CAPABILITY = 9  # the major number; later generations have other instructions


def is_hopper(device: torch.device) -> bool:
    """Whether a GPU is one of Hopper's: H100, H200, GH200."""
    return torch.cuda.get_device_capability(device)[0] == COMPUTE_CAPABILITY
