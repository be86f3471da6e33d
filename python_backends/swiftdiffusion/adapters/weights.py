"""The factors of one LoRA in memory, ready to patch."""

import math
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from swiftdiffusion.adapters.algorithms import ALGORITHMS
from swiftdiffusion.adapters.chunk_copier import ChunkCopier
from swiftdiffusion.adapters.copy_stream import copy_stream
from swiftdiffusion.adapters.factors import Factors
from swiftdiffusion.adapters.layout import LoraLayer
from swiftdiffusion.adapters.lora_plan import LoraPlan
from swiftdiffusion.adapters.safetensors_file import MalformedFileError
from swiftdiffusion.adapters.store import AdapterFile
from swiftdiffusion.adapters.tensor_block import TensorBlock
from swiftdiffusion.adapters.tensor_reader import TensorReader
from swiftdiffusion_operators.factor_table import FactorTable


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """A LoRA's tensors in one block, and what they change; `file` is where they come from."""

    file: AdapterFile
    plan: LoraPlan
    strengths: Sequence[float]  # alpha / rank of each of the plan's layers
    block: TensorBlock
    _elsewhere: dict[torch.device, "LoraWeights"] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def on(self, device: torch.device) -> "LoraWeights":
        """The same on a device: these where they lie there, else a copy that lives as long as these.

        The copy is made in one piece when it is first asked for, enqueued on the `copy_stream` of both devices.
        """
        home = self.block.memory.device
        if device == home:
            return self
        with self._lock:
            if device not in self._elsewhere:
                # torch has a copy between devices begin after, and end before, what their current streams have
                with copy_stream(home).use(), copy_stream(device).use():
                    block = self.block.allocate_on(device)
                    block.memory.copy_(self.block.memory, non_blocking=True)
                self._elsewhere[device] = replace(self, block=block)
            return self._elsewhere[device]

    def tabulate(self, network: str, scale: float, places: Mapping[str, int]) -> FactorTable:
        """The terms for one network as numbers, of a LoRA whose plan says that it has nothing but matrices there.

        Args:
            network: what they change.
            scale: of the LoRA.
            places: of each parameter in the list of weights that the table is for.
        """
        matrices = self.plan.matrices[network]
        weights = np.fromiter((places[name] for name in matrices.parameters), np.int64, len(matrices.parameters))
        strengths = np.array([self.strengths[number] for number in matrices.layers])
        return FactorTable(self.block.memory, matrices.dtype, matrices.places, weights, scale * strengths)

    @cached_property
    def networks(self) -> Mapping[str, Mapping[str, Factors]]:
        """The factors, ``networks[network][canonical parameter name]``, in the file's dtypes."""
        networks: dict[str, dict[str, Factors]] = defaultdict(dict)
        for layer, strength in zip(self.plan.layers, self.strengths, strict=True):
            parts = {part: self.block.tensors[key] for part, key in layer.keys.items()}
            magnitude = parts.pop("magnitude", None)
            parts.pop("alpha", None)
            down, up = ALGORITHMS[layer.algorithm].build(parts, layer.shape)
            magnitude = None if magnitude is None else magnitude.reshape(-1)
            networks[layer.network][layer.parameter] = Factors(down, up, strength, magnitude)
        return networks

    @property
    def nbytes(self) -> int:
        """Size in bytes: of the block, and of the changes that are no small factors."""
        whole = [layer for layer in self.plan.layers if layer.algorithm != "LoRA"]
        sizes = (
            math.prod(layer.shape) * self.block.places[next(iter(layer.keys.values()))].dtype.itemsize
            for layer in whole
        )
        return self.block.memory.nbytes + sum(sizes)


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


def read_weights(file: AdapterFile, path: Path, plan: LoraPlan, copier: ChunkCopier) -> tuple[LoraWeights, LoraWeights]:
    """Read the tensors of a plan from `path`; the rest of the file is not read.

    Returns:
        Them in host memory, and on the copier's device, enqueued there; the same where that is the host.

    Raises:
        MalformedFileError: an alpha is not finite, or the file was cut short.
        OSError: it cannot be read.
    """
    with TensorReader(path, plan.reading) as reader:
        block = copier.copy(reader.block, reader.read)
    strengths = [_strength(layer, reader.block) for layer in plan.layers]
    on_host = LoraWeights(file, plan, strengths, reader.block)
    return on_host, on_host if block is reader.block else replace(on_host, block=block)


def _strength(layer: LoraLayer, block: TensorBlock) -> float:
    if "alpha" not in layer.keys:
        return layer.strength
    alpha = block.tensors[layer.keys["alpha"]].item()
    if not math.isfinite(alpha):
        raise MalformedFileError(f"has a value in {layer.keys['alpha']!r} that is infinite or not a number")
    return alpha / layer.rank
