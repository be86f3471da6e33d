"""Putting LoRAs into the weights of running engines, and taking them out again."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch

from swiftdiffusion.adapters.deltas import Factors, delta
from swiftdiffusion.adapters.store import AdapterFile
from swiftdiffusion.adapters.targets import canonical_name
from swiftdiffusion.adapters.weights import ScaledLora
from swiftdiffusion.errors import Internal


class Refittable(Protocol):
    """The part of an engine that patching needs."""

    def parameters(self) -> Mapping[str, torch.Tensor]:
        """Return the live tensors by name."""

    def refit(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copy new values into the named parameters, in place."""


class Slot(NamedTuple):
    """One parameter of one engine, under the engine's own name for it."""

    engine: Refittable
    name: str


class Patcher:
    """Holds the engines' weights at base + Σ delta of one set of LoRAs at a time. For one thread.

    Every patched weight is computed from a pristine copy, made when the parameter is first touched
    and kept, so that neither order nor history leaves a trace: after any sequence, the weights are
    bit for bit those of a fresh engine given the last set.

    `engines` are those that together make up each network (the UNet's two halves, say). A parameter
    that several of them hold is patched in each.
    """

    def __init__(self, engines: Mapping[str, Sequence[Refittable]]) -> None:
        self._slots: dict[tuple[str, str], list[Slot]] = defaultdict(list)
        for network, parts in engines.items():
            for engine in parts:
                for name in engine.parameters():
                    self._slots[network, canonical_name(name)].append(Slot(engine, name))
        self._networks = tuple(engines)
        self._pristine: dict[Slot, torch.Tensor] = {}
        self._touched: set[Slot] = set()  # what may differ from its pristine copy
        self._applied: tuple[tuple[AdapterFile, float], ...] | None = ()  # None: unknown, after a failure

    @property
    def applied(self) -> tuple[tuple[str, float], ...]:
        """Names and scales of the LoRAs in the weights now."""
        return tuple((file.name, scale) for file, scale in self._applied or ())

    def apply(self, loras: Sequence[ScaledLora]) -> bool:
        """Make the weights base + Σ delta of `loras`, replacing any set before; none restores the base.

        Factors of networks that this patcher does not hold are left alone. Returns whether there
        was anything to do: the set that is in place already costs nothing. If an engine fails,
        the base is restored and the error raised on.
        """
        wanted = tuple(lora.key for lora in loras)
        if wanted == self._applied:
            return False
        terms = self._gather(loras)
        self._applied = None
        try:
            self._refit(terms)
        except BaseException:
            self._refit({})
            self._applied = ()
            raise
        self._applied = wanted
        return True

    def restore(self) -> bool:
        """Put the base weights back, bit for bit; returns whether there was anything to do."""
        return self.apply(())

    def _gather(self, loras: Sequence[ScaledLora]) -> dict[Slot, list[tuple[Factors, float]]]:
        terms: dict[Slot, list[tuple[Factors, float]]] = defaultdict(list)
        for lora in loras:
            for network in self._networks:
                for parameter, factors in lora.weights.networks.get(network, {}).items():
                    slots = self._slots.get((network, parameter))
                    if not slots:
                        raise Internal(
                            f"No engine of {network} holds {parameter}, which LoRA {lora.key[0].name!r} has."
                        )
                    for slot in slots:
                        terms[slot].append((factors, lora.scale))
        return terms

    @torch.no_grad()
    def _refit(self, terms: Mapping[Slot, list[tuple[Factors, float]]]) -> None:
        """Refit the union of what is touched and what `terms` touch, engine by engine."""
        weights: dict[Refittable, dict[str, torch.Tensor]] = defaultdict(dict)
        for slot in self._touched - terms.keys():
            weights[slot.engine][slot.name] = self._pristine[slot]
        for slot, slot_terms in terms.items():
            weights[slot.engine][slot.name] = self._patch(slot, slot_terms)
        self._touched |= terms.keys()
        for engine, new in weights.items():
            engine.refit(new)
        self._touched = set(terms)

    def _patch(self, slot: Slot, terms: list[tuple[Factors, float]]) -> torch.Tensor:
        if slot not in self._pristine:
            self._pristine[slot] = slot.engine.parameters()[slot.name].detach().clone()
        pristine = self._pristine[slot]
        # One rounding, at the end: the sum is in float32 whatever the weight's dtype.
        return (pristine.float() + delta(terms, pristine.shape, pristine.device)).to(pristine.dtype)
