"""Bringing back models whose process died or hangs: Triton restarts none, but unloads and loads one when it is told.

That is told over the server's own HTTP port and not by the Python backend's ``unload_model`` and ``load_model``: those
hold up their whole process, a lane, while the other model loads, and where loading fails or is not allowed
they end the server now and then (tritonserver 2.51: an exception thrown while another one is handled).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from swiftdiffusion.errors import Lost, Unavailable

PROBES = 4  # questions at a time: a model's instances share them, and one that is dead fails its own
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0  # before the second repair in a row; doubled for each further one

_log = logging.getLogger("swiftdiffusion")


class ModelControl(Protocol):
    """The server's models, as far as a repair needs them."""

    @property
    def server(self) -> str:
        """What tells this server from others on the machine."""

    def refusal(self) -> str:
        """Why models cannot be unloaded and loaded here; empty where they can."""

    def is_ready(self, model: str) -> bool:
        """Whether the model is loaded."""

    def end_processes(self, model: str) -> None:
        """Kill the processes of a model's instances, as far as there are any."""

    def unload(self, model: str) -> None:
        """Begin to unload; raises Unavailable."""

    def load(self, model: str) -> None:
        """Load, and return when it is ready; raises Unavailable."""


@dataclass
class _Patient:
    """One model's repairs in a row, none of which was followed by a picture."""

    repairs: int = 0
    ended: float = float("-inf")
    thread: threading.Thread | None = None

    def pause(self) -> float:
        """Seconds until the next one may begin."""
        if not self.repairs:
            return 0.0
        after = min(FIRST_PAUSE_S * 2 ** (self.repairs - 1), LONGEST_PAUSE_S)
        return max(0.0, self.ended + after - time.monotonic())


class Repairs:
    """Repairs models on threads of their own, one at a time for each model among all processes of a server."""

    def __init__(self, control: ModelControl, ask: Callable[[str], Future[Any]], patience_s: float) -> None:
        """Args: the server's models; a question that a living model answers at once; seconds after which it hangs."""
        self._control, self._ask, self._patience_s = control, ask, patience_s
        self._patients: dict[str, _Patient] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._has_refused = False

    @contextlib.contextmanager
    def watch(self, models: Collection[str]) -> Iterator[None]:
        """For a request's work with `models`: look after them where it ends as Unavailable."""
        try:
            yield
        except Unavailable:
            for model in models:
                self.look_after(model)
            raise
        with self._lock:
            for model in models:
                if patient := self._patients.get(model):
                    patient.repairs = 0  # it did its part, so the next repair need not be held back

    def look_after(self, model: str) -> None:
        """Repair a model if it needs to be. Returns at once; one that answers is left alone."""
        if refusal := self._control.refusal():
            if not self._has_refused:
                _log.error("model %r failed and cannot be repaired: %s", model, refusal)
            self._has_refused = True
            return
        with self._lock:
            patient = self._patients.setdefault(model, _Patient())
            if patient.thread is None or not patient.thread.is_alive():
                patient.thread = threading.Thread(
                    target=self._repair, args=(model, patient), name=f"repair-{model}", daemon=True
                )
                patient.thread.start()

    def close(self) -> None:
        """Begin no further repair; none is waited for."""
        self._closed.set()

    def _repair(self, model: str, patient: _Patient) -> None:
        with hold_name(f"{self._control.server}-{model}") as held:
            if not held or self._closed.wait(patient.pause()):  # another lane is at it, or all is over
                return
            if not self._control.is_ready(model) or self._is_well(model):  # whoever unloaded it had a reason
                return
            while not self._load_anew(model, patient) and not self._closed.wait(patient.pause()):
                if self._control.is_ready(model):  # somebody has seen to it
                    return

    def _is_well(self, model: str) -> bool:
        answers = [self._ask(model) for _ in range(PROBES)]
        done, hanging = wait(answers, self._patience_s)
        return not hanging and not any(isinstance(answer.exception(), Lost) for answer in done)

    def _load_anew(self, model: str, patient: _Patient) -> bool:
        """Whether the model is loaded again."""
        started = time.monotonic()
        try:
            self._control.end_processes(model)  # one that hangs would not unload
            self._control.unload(model)
            self._control.load(model)
        except Unavailable as error:
            _log.error("model %r could not be repaired: %s", model, error)
            return False
        else:
            _log.warning("model %r was lost and is loaded again, which took %.1f s", model, time.monotonic() - started)
            return True
        finally:
            with self._lock:
                patient.repairs += 1
                patient.ended = time.monotonic()


@contextlib.contextmanager
def hold_name(name: str) -> Iterator[bool]:
    """Whether this block alone, in all processes of the machine, holds the name; a process's end lets go of it.

    The name is one in Linux's abstract socket namespace, which has no file to leave behind.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]  # a socket's name is at most 107 bytes
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as holder:
        try:
            holder.bind(f"\0swiftdiffusion-repair-{digest}")
        except OSError:
            yield False
        else:
            yield True
