"""Putting LoRAs into the weights of running engines, and taking them out again."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor

from swiftdiffusion.adapters.copy_stream import copy_stream
from swiftdiffusion.adapters.dora import compute_gain, scale_rows
from swiftdiffusion.adapters.matrix_group import MatrixGroup
from swiftdiffusion.adapters.prepared import LiveEngine, PreparedPatch, Slot
from swiftdiffusion.adapters.pristine import PristineWeights
from swiftdiffusion.adapters.store import AdapterFile
from swiftdiffusion.adapters.targets import canonical_name
from swiftdiffusion.adapters.weights import ScaledLora
from swiftdiffusion.errors import Internal
from swiftdiffusion.placement import Placement
from swiftdiffusion_operators.lora_patch import compile_patch, prepare_patch
from swiftdiffusion_operators.weight_patch import Term, WeightPatch

PATCHES_KEPT = 4  # a request's sets while its LoRAs arrive, and the restoring; each holds its LoRAs on the device
GROUPS_KEPT = 16  # forms of LoRAs, about 1 MB each on the device for every attention of SDXL

LoraSet = tuple[tuple[AdapterFile, float], ...]  # files and scales
CPU = Placement(torch.device("cpu"), torch.float32)
Uses = Mapping[Slot, Sequence[ScaledLora]]  # what each is to have


class Patcher:
    """Holds the engines' weights at base + Σ delta of one set of LoRAs at a time.

    Every patched weight is computed from a pristine copy, made when the parameter is first touched
    and kept, so that neither order nor history leaves a trace: after any sequence, the weights are
    bit for bit those of a fresh engine given the last set.

    `engines` are those that together make up each network (the UNet's two halves, say, on each of two
    GPUs). A parameter that several of them hold is patched in each, on its own device: a LoRA is copied
    there once, and the same launch gives the same bits. `prepare` is for any thread, the rest for the
    one that runs the engines: what it does is only enqueued, between the calls around it.
    """

    def __init__(
        self,
        engines: Mapping[str, Sequence[LiveEngine]],
        placements: Sequence[Placement] = (CPU,),
        pristine_on_host: bool = False,
    ) -> None:
        """Args: the engines by network, where their weights lie, and whether the pristine copies are on the host."""
        self._slots: dict[tuple[str, str], list[Slot]] = defaultdict(list)
        for network, parts in engines.items():
            for engine in parts:
                for name in engine.parameters():
                    slot = Slot(engine, name, network, canonical_name(name))
                    self._slots[network, slot.parameter].append(slot)
        self._networks = tuple(engines)
        self._kinds = {placement.device.type for placement in placements}
        for placement in placements:
            compile_patch(placement.device, placement.dtype)
        self._pristine = PristineWeights(pristine_on_host)
        self._group = lru_cache(maxsize=GROUPS_KEPT)(self._describe_group)
        self._prepared: OrderedDict[LoraSet | frozenset[Slot], PreparedPatch] = OrderedDict()
        self._lock = threading.Lock()
        self._touched: frozenset[Slot] = frozenset()  # what may differ from its pristine copy
        self._applied: LoraSet | None = ()  # None: unknown, after a failure

    @property
    def applied(self) -> tuple[tuple[str, float], ...]:
        """Names and scales of the LoRAs in the weights now."""
        return tuple((file.name, scale) for file, scale in self._applied or ())

    def holds(self, wanted: LoraSet) -> bool:
        """Whether just this set is in the weights now."""
        return self._applied == wanted

    def prepare(self, loras: Sequence[ScaledLora]) -> PreparedPatch:
        """Do what `apply` can be spared: read pristine copies, build the tables; the last few are remembered.

        Raises `Internal` for a parameter that no engine holds.
        """
        key = tuple(lora.key for lora in loras)
        patch = self._remember(key, lambda: self._build_of_matrices(loras) or self._build(self._gather(loras)))
        self._prepare_restoring(patch.slots)  # the next request will want it
        return patch

    def apply(self, loras: Sequence[ScaledLora]) -> bool:
        """Make the weights base + Σ delta of `loras`, replacing any set before; none restores the base.

        Factors of networks that this patcher does not hold are left alone. Returns whether there
        was anything to do: the set that is in place already costs nothing. If an engine fails,
        the base is restored and the error raised on.
        """
        wanted = tuple(lora.key for lora in loras)
        if wanted == self._applied:
            return False
        patch = self.prepare(loras)
        self._applied = None
        try:
            self._put(patch)
        except BaseException:
            self._put(self.prepare(()))
            self._applied = ()
            raise
        self._applied = wanted
        return True

    def restore(self) -> bool:
        """Put the base weights back, bit for bit; returns whether there was anything to do."""
        return self.apply(())

    def _put(self, patch: PreparedPatch) -> None:
        """Write the union of what is touched and what `patch` touches, and tell each engine once."""
        stale = self._prepare_restoring(self._touched - patch.slots)
        self._touched |= patch.slots
        stale.run()
        patch.run()
        written: dict[LiveEngine, list[str]] = defaultdict(list)
        for slot in stale.slots | patch.slots:
            written[slot.engine].append(slot.name)
        for engine, names in written.items():
            engine.weights_changed(names)
        self._touched = patch.slots

    def _prepare_restoring(self, slots: frozenset[Slot]) -> PreparedPatch:
        in_order = (slot for group in self._slots.values() for slot in group)  # one layout, one table of tiles
        return self._remember(slots, lambda: self._build({slot: () for slot in in_order if slot in slots}))

    def _gather(self, loras: Sequence[ScaledLora]) -> Uses:
        uses: dict[Slot, list[ScaledLora]] = defaultdict(list)
        for lora in loras:
            for network in self._networks:
                for parameter in lora.weights.networks.get(network, ()):
                    slots = self._slots.get((network, parameter))
                    if not slots:
                        raise Internal(
                            f"No engine of {network} holds {parameter}, which LoRA {lora.key[0].name!r} has."
                        )
                    for slot in slots:
                        uses[slot].append(lora)
        return uses

    def _remember(self, key: LoraSet | frozenset[Slot], build: Callable[[], PreparedPatch]) -> PreparedPatch:
        patch = self._prepared.get(key)
        if patch is None:
            patch = build()  # without the lock: who runs the engines must not wait for another set's
        with self._lock:
            patch = self._prepared.setdefault(key, patch)
            self._prepared.move_to_end(key)
            while len(self._prepared) > PATCHES_KEPT:
                self._prepared.popitem(last=False)
        return patch

    @torch.no_grad()
    def _build_of_matrices(self, loras: Sequence[ScaledLora]) -> PreparedPatch | None:
        """The patch where it can be made of arrays; None where it must be described weight by weight."""
        parts = []
        for network in self._networks:
            acting = [lora for lora in loras if network in lora.weights.plan.networks]
            if acting:
                part = self._prepare_matrices(network, acting)
                if part is None:
                    return None
                parts.append(part)
        return PreparedPatch.together(parts) if parts else None

    def _prepare_matrices(self, network: str, loras: Sequence[ScaledLora]) -> PreparedPatch | None:
        if not all(network in lora.weights.plan.matrices for lora in loras):
            return None
        # the names of each form, of which there is nearly always one
        forms = dict.fromkeys(lora.weights.plan.matrices[network].parameters for lora in loras)
        group = self._group(network, tuple(dict.fromkeys(chain.from_iterable(forms))))
        return None if group is None else group.prepare(network, loras)

    def _describe_group(self, network: str, parameters: tuple[str, ...]) -> MatrixGroup | None:
        slots = [self._slots.get((network, name), ()) for name in parameters]
        return MatrixGroup.describe([*chain.from_iterable(slots)], self._pristine) if all(slots) else None

    @torch.no_grad()
    def _build(self, uses: Uses) -> PreparedPatch:
        by_device: dict[torch.device, list[tuple[Slot, Tensor]]] = defaultdict(list)
        for slot in uses:
            live = slot.engine.parameters()[slot.name].detach()
            if live.device.type not in self._kinds:
                raise Internal(f"The engine of {slot.name!r} cannot change it; a plan must be built to be refitted.")
            by_device[live.device].append((slot, live))
        patches, marks = [], []
        for device, weights in by_device.items():
            with copy_stream(device).use():
                changes = [self._describe(slot, live, uses[slot]) for slot, live in weights]
                patches.append(prepare_patch(changes))
            marks.append(copy_stream(device).mark())
        return PreparedPatch(uses, patches, marks)

    def _describe(self, slot: Slot, live: Tensor, loras: Sequence[ScaledLora]) -> WeightPatch:
        """What the kernel is to do for one weight."""
        pristine = self._pristine.keep(slot, live)
        gain: Tensor | None = None
        terms: list[Term] = []
        for lora in loras:
            factors = lora.weights.on(live.device).networks[slot.network][slot.parameter]
            terms.append(Term(factors.down, factors.up, lora.scale * factors.strength))
            if factors.magnitude is not None:
                own = compute_gain(factors, lora.scale, pristine)
                terms = [scale_rows(term, own) for term in terms]
                gain = own if gain is None else gain * own
        return WeightPatch(live, pristine, tuple(terms), gain)
