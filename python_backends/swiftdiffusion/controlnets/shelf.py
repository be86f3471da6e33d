"""The ControlNets that one process holds: loaded when they are asked for, dropped for others that are."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

from swiftdiffusion.daemon_threads import DaemonThreads
from swiftdiffusion.errors import InvalidArgument, NotFound, SwiftDiffusionError, Unavailable, shorten

LOOK_S = 0.2  # how often one who waits says so
MEBIBYTE = 2**20


class Sized(Protocol):
    """What a shelf holds."""

    @property
    def nbytes(self) -> int:
        """What it takes of the budget, in bytes."""


Item = TypeVar("Item", bound=Sized)
ItemOut = TypeVar("ItemOut", bound=Sized, covariant=True)


class Library(Protocol[ItemOut]):
    """Where a shelf's items come from."""

    def names(self) -> Sequence[str]:
        """All that there are now."""

    def measure(self, name: str) -> int:
        """The bytes that the item will take, without loading it."""

    def load(self, name: str) -> ItemOut:
        """Load it, which may take long."""


@dataclass
class _Slot(Generic[Item]):
    """One item that is on the shelf or on its way there."""

    nbytes: int
    loaded: Future[Item]
    leases: int = 0  # of those who use it or wait for it


class Shelf(Generic[Item]):
    """Items by name, loaded one at a time in the background and kept within a budget. Thread-safe.

    Room is made by dropping what was used longest ago and nobody leases; what is pinned is never dropped.
    """

    def __init__(self, library: Library[Item], budget: int = 0, pinned: Collection[str] = (), prefix: str = "") -> None:
        """Load what is pinned.

        Args:
            library: what there is to load.
            budget: bytes for all items together; 0 for no limit.
            pinned: the names of those that stay.
            prefix: what the model's parameters for the last two, `memory_mb` and `pinned`, begin with.

        Raises:
            InvalidArgument: a pinned one that is not there, or a budget too small for them.
        """
        self._library, self._budget, self._pinned = library, budget, frozenset(pinned)
        self._budget_parameter = f"'{prefix}memory_mb'"
        self._slots: OrderedDict[str, _Slot[Item]] = OrderedDict()  # the ones used longest ago first
        self._changed = threading.Condition()
        self._loader = DaemonThreads(1, "controlnet-loader")
        there = library.names()
        for name in pinned:
            if name not in there:
                raise InvalidArgument(
                    f"parameter '{prefix}pinned' names {shorten(name)}; there are: {', '.join(there) or 'none'}"
                )
        self._pinned_bytes = sum(library.measure(name) for name in self._pinned)
        if budget and self._pinned_bytes > budget:
            raise InvalidArgument(
                f"parameter {self._budget_parameter} is {budget / MEBIBYTE:g}; what '{prefix}pinned' names needs "
                f"{self._pinned_bytes / MEBIBYTE:.1f}"
            )
        for name in pinned:
            with self.lease(name, lambda: None, threading.TIMEOUT_MAX):
                pass

    def names(self) -> Sequence[str]:
        """All that can be leased."""
        return self._library.names()

    def held(self) -> list[str]:
        """Those that are loaded now, the one used longest ago first."""
        with self._changed:
            return [name for name, slot in self._slots.items() if slot.loaded.done()]

    @contextmanager
    def lease(self, name: str, waiting: Callable[[], None], timeout_s: float) -> Iterator[Item]:
        """Use an item, loaded first if it must be; it stays at least as long as the `with` block.

        Args:
            name: one of `names`.
            waiting: called about every 0.2 s while it is waited for; may raise to give up.
            timeout_s: how long it is waited for.

        Raises:
            NotFound: no item of this name.
            Unavailable: it was not there in time, or finds no room: what fills the budget is in use or pinned.
            SwiftDiffusionError: what loading it raised; the next lease tries again.
        """
        slot = self._join(name, waiting, timeout_s)
        try:
            yield slot.loaded.result()
        finally:
            self._leave(slot)

    def close(self) -> None:
        """Load nothing more."""
        self._loader.close(0)

    def _join(self, name: str, waiting: Callable[[], None], timeout_s: float) -> _Slot[Item]:
        """A lease of a slot that is loaded."""
        deadline = time.monotonic() + timeout_s
        slot: _Slot[Item] | None = None
        need: int | None = None
        try:
            while True:
                with self._changed:
                    if slot is None:
                        slot = self._find(name)
                    if slot is None and need is not None:
                        slot = self._begin(name, need)
                    if slot is not None and slot.loaded.done():
                        slot.loaded.result()
                        return slot
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise self._explain_delay(name, slot, timeout_s)
                    if slot is not None or need is not None:
                        self._changed.wait(min(LOOK_S, left))
                waiting()
                if slot is None and need is None:
                    need = self._measure(name)  # reads files, which must not hold up those who use others
        except BaseException:
            if slot is not None:
                self._leave(slot)
            raise

    def _leave(self, slot: _Slot[Item]) -> None:
        with self._changed:
            slot.leases -= 1
            self._changed.notify_all()

    def _find(self, name: str) -> _Slot[Item] | None:
        slot = self._slots.get(name)
        if slot is not None:
            slot.leases += 1
            self._slots.move_to_end(name)
        return slot

    def _measure(self, name: str) -> int:
        there = self._library.names()
        if name not in there:
            raise NotFound(f"ControlNet {shorten(name)} is not here; served: {', '.join(there) or 'none'}")
        return self._library.measure(name)

    def _begin(self, name: str, need: int) -> _Slot[Item] | None:
        """A slot whose item of `need` bytes begins to load, or None where there is no room for it at the moment."""
        dropped = self._choose_dropped(name, need)
        if dropped is None:
            return None
        items = [self._slots.pop(other).loaded for other in dropped]
        slot: _Slot[Item] = _Slot(need, Future(), leases=1)
        self._slots[name] = slot
        self._loader.submit(self._load, name, slot, items)
        return slot

    def _choose_dropped(self, name: str, need: int) -> list[str] | None:
        """What makes room for `need` bytes; None if nothing does now. Raises Unavailable if nothing ever will."""
        if not self._budget:
            return []
        pinned = self._pinned_bytes if name not in self._pinned else 0
        if need > self._budget - pinned:
            beside = f" beside the pinned {', '.join(sorted(self._pinned))}" if pinned else ""
            raise Unavailable(
                f"ControlNet {name!r} needs {need / MEBIBYTE:.1f} MB and does not fit into the "
                f"{self._budget / MEBIBYTE:g} of {self._budget_parameter}{beside}"
            )
        room = self._budget - sum(slot.nbytes for slot in self._slots.values())
        dropped = []
        for other, slot in self._slots.items():
            if room >= need:
                break
            if not slot.leases and slot.loaded.done() and other not in self._pinned:
                dropped.append(other)
                room += slot.nbytes
        return dropped if room >= need else None

    def _load(self, name: str, slot: _Slot[Item], dropped: list[Future[Item]]) -> None:
        if dropped:
            dropped.clear()
            gc.collect()  # a network's modules may refer to each other in a circle
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
        try:
            item = self._library.load(name)
        except Exception as error:
            if not isinstance(error, SwiftDiffusionError):
                logging.getLogger("swiftdiffusion").error("ControlNet %r cannot be loaded", name, exc_info=error)
                error = Unavailable(f"ControlNet {name!r} cannot be loaded; the server's log says why")
            with self._changed:
                del self._slots[name]
                slot.loaded.set_exception(error)
                self._changed.notify_all()
            return
        with self._changed:
            slot.nbytes = item.nbytes
            slot.loaded.set_result(item)
            self._changed.notify_all()

    def _explain_delay(self, name: str, slot: _Slot[Item] | None, timeout_s: float) -> Unavailable:
        if slot is not None:
            return Unavailable(f"ControlNet {name!r} was not loaded within {timeout_s:g} s")
        taken = ", ".join(
            f"{other} ({slot.nbytes / MEBIBYTE:.1f} MB, {'pinned' if other in self._pinned else 'in use'})"
            for other, slot in self._slots.items()
        )
        return Unavailable(
            f"ControlNet {name!r} found no room within {timeout_s:g} s: {self._budget_parameter} is "
            f"{self._budget / MEBIBYTE:g}, taken by {taken}"
        )
