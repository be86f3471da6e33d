"""Triton's types of numbers and torch's."""

from __future__ import annotations

import torch
import triton.language as tl

TORCH = {
    tl.float16: torch.float16,
    tl.bfloat16: torch.bfloat16,
    tl.float32: torch.float32,
    tl.int32: torch.int32,
    tl.int64: torch.int64,
    tl.int1: torch.bool,
}
TRITON = {theirs: own for own, theirs in TORCH.items()}
