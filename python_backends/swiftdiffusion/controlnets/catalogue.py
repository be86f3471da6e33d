"""Which of a server's models serves which ControlNet, from the lane's side."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from swiftdiffusion.errors import Unavailable
from swiftdiffusion.services.clients import Call
from swiftdiffusion.services.contracts import CONTROLNET

AGAIN_S = 1.0  # a model is not asked again before that, whatever names are asked for
LOOK_S = 0.05  # nor is the server asked again so soon whether one is loaded, which takes it up to half a millisecond


@dataclass
class _Entry:
    """What is known of one model."""

    names: tuple[str, ...]  # until it has said them, what its own name tells
    gpu: str = ""  # as `name_gpu` has it, once it has said so
    current: bool = False  # it has said them since it was last loaded
    asked: float = float("-inf")
    answer: Future[dict[str, NDArray[Any]]] | None = None  # the question under way
    loaded: bool = False  # when that was last looked at
    looked: float = float("-inf")


class Catalogue:
    """Asks each model once what it serves, and again after it was loaded anew or for a name that nobody knows.

    A model that names none serves one, under its own name less the prefix. For one thread.
    """

    def __init__(
        self,
        call: Call,
        list_models: Callable[[], Sequence[str]],
        is_ready: Callable[[str], bool],
        prefix: str,
        timeout_s: float,
        is_usable: Callable[[str], bool] = lambda model: True,
    ) -> None:
        """Open it.

        Args:
            call: how models are called.
            list_models: names all whose names start with `prefix`, loaded or not.
            is_ready: whether one is loaded.
            prefix: before a ControlNet's name in that of a model for it alone.
            timeout_s: how long a model's answer is waited for.
            is_usable: whether one that is loaded may be called.
        """
        self._call, self._list_models, self._is_ready = call, list_models, is_ready
        self._prefix, self._timeout_s = prefix, timeout_s
        self._is_usable = is_usable
        self._entries: dict[str, _Entry] = {}
        self._turns: dict[str, Iterator[int]] = {}

    def names(self, wanted: Collection[str] = ()) -> list[str]:
        """The ControlNets that there are, sorted; those whose model is not loaded at the moment too.

        `wanted` are the ones that matter, all where none is named: where one of them is not known, every model is asked
        again, and those that serve others are not looked at.
        """
        self._refresh(wanted)
        if not self._known().issuperset(wanted):
            self._refresh(anew=True)
        return sorted(self._known())

    def require(self, name: str) -> None:
        """Raise Unavailable if no model that serves a ControlNet is loaded."""
        self._find_ready(name)

    def locate(self, name: str, gpu: str = "") -> str:
        """The model that serves a ControlNet, where several do in turn; raises as `require` does.

        Those on `gpu` (`name_gpu`) are preferred, if one is named.
        """
        ready = self._find_ready(name)
        if gpu:
            ready = [model for model in ready if self._entries[model].gpu == gpu] or ready
        return ready[next(self._turns.setdefault(name, itertools.count())) % len(ready)]

    def _find_ready(self, name: str) -> list[str]:
        ready = [model for model, entry in self._entries.items() if name in entry.names and self._can_call(model)]
        if not ready:
            raise Unavailable(f"ControlNet {name!r} is not being served at the moment")
        return ready

    def _can_call(self, model: str) -> bool:
        entry, now = self._entries[model], time.monotonic()
        if now - entry.looked > LOOK_S:
            entry.loaded, entry.looked = self._is_ready(model), now
        return entry.loaded and self._is_usable(model)

    def _known(self) -> set[str]:
        return {name for entry in self._entries.values() for name in entry.names}

    def _refresh(self, wanted: Collection[str] = (), anew: bool = False) -> None:
        models = self._list_models()
        self._entries = {
            model: self._entries.get(model) or _Entry((model.removeprefix(self._prefix),)) for model in models
        }
        now = time.monotonic()
        fresh = []
        for model, entry in self._entries.items():
            if wanted and entry.current and not set(wanted).intersection(entry.names):
                continue
            if not self._can_call(model):
                entry.current = False
            elif entry.answer is None and (anew or not entry.current) and now - entry.asked > AGAIN_S:
                entry.answer, entry.asked = self._call(model, CONTROLNET, {}), now
                fresh.append(entry.answer)
        wait(fresh, self._timeout_s)  # one that hangs is waited for once, and later only looked at
        for model, entry in self._entries.items():
            if entry.answer is not None and entry.answer.done():
                answer, entry.answer = entry.answer, None
                if answer.exception() is None:
                    entry.names, entry.gpu = self._read(model, answer.result())
                    entry.current = True

    def _read(self, model: str, outputs: dict[str, NDArray[Any]]) -> tuple[tuple[str, ...], str]:
        names = tuple(name.decode() for name in outputs["names"]) or (model.removeprefix(self._prefix),)
        return names, outputs["gpu"][0].decode()
