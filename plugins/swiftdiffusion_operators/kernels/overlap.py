"""Programmatic dependent launch: a kernel is set up while the one before it still runs to its end.

Between the thousand short kernels of a denoising step the setting up costs as much as some of them. Needs compute
capability 9.0; see the CUDA programming guide, "Programmatic Dependent Launch and Synchronization".
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def begin(OVERLAPS: tl.constexpr):
    """First in a kernel: let the next one be set up, then wait for what the one before wrote."""
    if OVERLAPS:
        gdc_launch_dependents()
        gdc_wait()


def options() -> dict[str, Any]:
    """A launch's options for the current device; without one, Triton's interpreter runs the kernels."""
    return _options(torch.cuda.current_device()) if torch.cuda.is_available() else {"OVERLAPS": False}


@cache
def _options(device: int) -> dict[str, Any]:
    if torch.cuda.get_device_capability(device) < (9, 0):
        return {"OVERLAPS": False}
    return {"OVERLAPS": True, "launch_pdl": True}
