"""As many LoRAs as are wanted: one of `shapes`' own with other numbers in each."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from shapes.adapters import ADAPTERS
from shapes.checkpoint import lora_file


def write_adapters(folder: Path, count: int) -> int:
    """Write LoRAs of one size, `shapes`' own with other numbers, and give the size of one in bytes."""
    tensors = load_file(lora_file(next(iter(ADAPTERS))))
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        noisy = {
            key: tensor * (1 + 0.1 * torch.randn((), generator=generator)).to(tensor.dtype)
            for key, tensor in tensors.items()
        }
        save_file(noisy, folder / f"lora{number:03}.safetensors")
    return sum(tensor.nbytes + 64 for tensor in tensors.values())
