"""Weights that LoRAs of the same layers change, described once for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swiftdiffusion.adapters.copy_stream import copy_stream
from swiftdiffusion.adapters.prepared import PreparedPatch, Slot
from swiftdiffusion.adapters.pristine import PristineWeights
from swiftdiffusion.adapters.weights import ScaledLora
from swiftdiffusion_operators.lora_patch import DescribedWeights, describe_weights


@dataclass(frozen=True)
class _Share:
    """What lies on one device."""

    weights: DescribedWeights
    places: Mapping[str, int]  # of each canonical name among the weights


class MatrixGroup:
    """The weights of one network of these names, in every engine that holds them."""

    def __init__(self, slots: Sequence[Slot], shares: Mapping[torch.device, _Share]) -> None:
        self._slots = frozenset(slots)
        self._shares = shares

    @classmethod
    def describe(cls, slots: Sequence[Slot], pristine: PristineWeights) -> MatrixGroup | None:
        """Take their pristine copies and describe them; None where `describe_weights` cannot, or one device has two."""
        by_device: dict[torch.device, dict[str, tuple[Slot, Tensor]]] = defaultdict(dict)
        for slot in slots:
            live = slot.engine.parameters()[slot.name].detach()
            if by_device[live.device].setdefault(slot.parameter, (slot, live))[0] is not slot:
                return None
        shares = {}
        for device, held in by_device.items():
            with copy_stream(device).use():
                weights = describe_weights([(live, pristine.keep(slot, live)) for slot, live in held.values()])
            if weights is None:
                return None
            shares[device] = _Share(weights, {name: place for place, name in enumerate(held)})
        return cls(slots, shares)

    def prepare(self, network: str, loras: Sequence[ScaledLora]) -> PreparedPatch | None:
        """What makes the weights base + Σ delta of LoRAs that have nothing but matrices for the network.

        None where `DescribedWeights.prepare` cannot.
        """
        patches, marks = [], []
        for device, share in self._shares.items():
            with copy_stream(device).use():
                tables = [lora.weights.on(device).tabulate(network, lora.scale, share.places) for lora in loras]
                patch = share.weights.prepare(tables)
            if patch is None:
                return None
            patches.append(patch)
            marks.append(copy_stream(device).mark())
        return PreparedPatch(self._slots, patches, marks)
