"""What it takes to read and to patch LoRAs of one form, worked out once: a trainer's files differ in values alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from swiftdiffusion.adapters.layout import LoraLayer, LoraLayout
from swiftdiffusion.adapters.safetensors_file import Header
from swiftdiffusion.adapters.tensor_block import Arrangement
from swiftdiffusion.adapters.tensor_reader import ReadingPlan


@dataclass(frozen=True, eq=False)
class Matrices:
    """A LoRA's layers for one network, all of them products of two matrices of one dtype."""

    parameters: tuple[str, ...]  # that they change, by their canonical names
    layers: Sequence[int]  # their places among the plan's layers
    dtype: torch.dtype
    places: NDArray[np.int64]  # as `FactorTable.places`


class LoraPlan:
    """The layers of a file for some networks, where its tensors go in a block, and which of it is but matrices."""

    def __init__(self, header: Header, layout: LoraLayout, networks: Collection[str]) -> None:
        self.layers = tuple(layer for layer in layout.layers if layer.network in networks)
        self.networks = frozenset(layer.network for layer in self.layers)
        self.reading = ReadingPlan(header, [key for layer in self.layers for key in layer.keys.values()])
        found = {network: _find_matrices(network, self.layers, self.reading.arrangement) for network in self.networks}
        self.matrices: Mapping[str, Matrices] = {name: one for name, one in found.items() if one is not None}
        """By network; one of which anything is to be computed first is left out."""

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but matrices in it."""
        return self.matrices.keys() == self.networks


def _find_matrices(network: str, layers: Sequence[LoraLayer], arrangement: Arrangement) -> Matrices | None:
    """The layers for a network; None where one is more than a product of matrices, or of another dtype."""
    numbers = [number for number, layer in enumerate(layers) if layer.network == network]
    mine = [layers[number] for number in numbers]
    if any(layer.algorithm != "LoRA" or len(layer.shape) != 2 or "magnitude" in layer.keys for layer in mine):
        return None
    pairs = [(arrangement.places[layer.keys["up"]], arrangement.places[layer.keys["down"]]) for layer in mine]
    dtypes = {place.dtype for pair in pairs for place in pair}
    if len(dtypes) != 1:
        return None
    places = np.array([(up.start, down.start, *down.shape) for up, down in pairs], np.int64)
    return Matrices(tuple(layer.parameter for layer in mine), numbers, dtypes.pop(), places)
