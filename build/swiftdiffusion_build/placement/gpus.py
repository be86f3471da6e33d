"""The GPUs of a machine, this one or another."""

from __future__ import annotations

from dataclasses import dataclass

import torch

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One GPU; its place in a sequence of them is its number."""

    memory: int  # bytes in all, whether they are free now or not


def find_gpus() -> tuple[Gpu, ...]:
    """The GPUs that are here, as torch sees them.

    Not as nvidia-smi does, which numbers them in another order and knows nothing of CUDA_VISIBLE_DEVICES, while the
    server's processes see what torch sees.
    """
    return tuple(
        Gpu(torch.cuda.get_device_properties(number).total_memory) for number in range(torch.cuda.device_count())
    )


def describe_gpus(count: int, memory_gb: float) -> tuple[Gpu, ...]:
    """`count` GPUs of the same memory in GiB, of a machine that need not be here."""
    return (Gpu(int(memory_gb * GIB)),) * count
