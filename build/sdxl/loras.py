"""Random LoRAs for SDXL's UNet, in files as diffusers and PEFT write them."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sdxl.architecture import describe_unet
from sdxl.random_weights import draw_noise

ATTENTION_PROJECTIONS = (".to_q", ".to_k", ".to_v", ".to_out.0")
_STRENGTH = 0.1  # of the patch, against the weight: about a style LoRA's


def describe_lora(rank: int) -> dict[str, tuple[int, int]]:
    """Names and shapes of a LoRA on every attention projection of the UNet.

    560 pairs: ``unet.<layer>.lora_A.weight`` [rank, in] and ``unet.<layer>.lora_B.weight`` [out, rank]. There is no
    alpha, which then equals the rank.
    """
    shapes = {}
    for name, layer in describe_unet().named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(ATTENTION_PROJECTIONS):
            shapes[f"unet.{name}.lora_A.weight"] = (rank, layer.in_features)
            shapes[f"unet.{name}.lora_B.weight"] = (layer.out_features, rank)
    return shapes


def build_lora(rank: int, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """Random matrices for `describe_lora`, on the CPU; 186 MB in fp16 at rank 64.

    A is z / √in and B is 0.1 z / √rank, so that B A has a tenth of the magnitude that `random_weights` gives the
    weight which it patches. The same matrices for the same seed and rank.
    """
    tensors = {}
    for name, shape in describe_lora(rank).items():
        strength = _STRENGTH if name.endswith("lora_B.weight") else 1.0
        tensors[name] = draw_noise(name, shape, "cpu", seed).mul_(strength / shape[1] ** 0.5).to(dtype)
    return tensors


def save_lora(tensors: dict[str, Tensor], path: Path) -> None:
    """Write one safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt", "description": "random weights, for measuring"})
