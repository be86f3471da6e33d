"""The factors of one LoRA in memory, ready to patch."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from swiftdiffusion.adapters.deltas import Factors
from swiftdiffusion.adapters.layout import LoraLayer, LoraLayout
from swiftdiffusion.adapters.safetensors_file import Header, MalformedFileError, read_tensors
from swiftdiffusion.adapters.store import AdapterFile


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA's factors, ``networks[network][canonical parameter name]``; `file` is where they come from."""

    file: AdapterFile
    networks: Mapping[str, Mapping[str, Factors]]

    @cached_property
    def nbytes(self) -> int:
        """Size of all factors in bytes."""
        return sum(
            factors.down.nbytes + factors.up.nbytes
            for network in self.networks.values()
            for factors in network.values()
        )

    def to(self, device: torch.device) -> "LoraWeights":
        """Copy to a device, in the file's dtypes; the same object if it is there already."""
        if all(f.up.device == device for network in self.networks.values() for f in network.values()):
            return self
        return LoraWeights(
            self.file,
            {
                network: {name: Factors(f.down.to(device), f.up.to(device), f.strength) for name, f in factors.items()}
                for network, factors in self.networks.items()
            },
        )


@dataclass(frozen=True)
class ScaledLora:
    """A LoRA as one request uses it."""

    weights: LoraWeights
    scale: float

    @property
    def name(self) -> str:
        """The LoRA's name in the store."""
        return self.weights.file.name

    @property
    def key(self) -> tuple[AdapterFile, float]:
        """Equal only for the same unchanged file at the same scale."""
        return self.weights.file, self.scale


def read_weights(file: AdapterFile, header: Header, layout: LoraLayout, networks: Collection[str]) -> LoraWeights:
    """Read the factors for `networks` into host memory; the rest of the file is not read.

    Raises `MalformedFileError` for a value that is not finite or a file cut short, `OSError` if it
    cannot be read.
    """
    layers = [layer for layer in layout.layers if layer.network in networks]
    keys = [key for layer in layers for key in (layer.down_key, layer.up_key, layer.alpha_key) if key is not None]
    tensors = read_tensors(file.path, header, keys)
    for key, tensor in tensors.items():
        # The extremes are a NaN where there is one, and take a fraction of isfinite's time on half precision.
        if not all(math.isfinite(extreme.item()) for extreme in torch.aminmax(tensor)):
            raise MalformedFileError(f"has a value in {key!r} that is infinite or not a number")
    factors: dict[str, dict[str, Factors]] = {network: {} for network in networks}
    for layer in layers:
        down, up = tensors[layer.down_key], tensors[layer.up_key]
        factors[layer.network][layer.parameter] = Factors(down, up, _strength(layer, tensors))
    return LoraWeights(file, factors)


def _strength(layer: LoraLayer, tensors: Mapping[str, torch.Tensor]) -> float:
    if layer.alpha_key is None:
        return layer.strength
    return tensors[layer.alpha_key].item() / layer.rank
