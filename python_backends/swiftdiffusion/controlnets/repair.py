"""Bringing back models whose process died or hangs: Triton restarts none, but unloads and loads one when it is told.

A call to a model whose process has died takes a second to fail, and makes tritonserver 2.51 keep that instance's 35
threads and its shared memory for ever. So does a request that is in the process when it dies, from another model or
not, given up and unloaded before or not: what holds the instance is a handle of the request's that only the process
itself gives back. So death is told from the processes themselves where it can be, nobody calls a model that is under
repair, and what goes through GPU memory, where no call is under way while steps run, leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, as_completed
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Protocol

from swiftdiffusion.controlnets.claim import Claim, is_announced
from swiftdiffusion.errors import Lost, Unavailable

PROBES = 4  # questions at a time: a model's instances share them, and one that hangs answers none
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0  # before the second repair in a row; doubled for each further one

_log = logging.getLogger("swiftdiffusion")


class ModelControl(Protocol):
    """The server's models and their processes, as far as a repair needs them."""

    @property
    def server(self) -> str:
        """What tells this server from others on the machine."""

    def refusal(self) -> str:
        """Why models cannot be unloaded and loaded here; empty where they can."""

    def is_ready(self, model: str) -> bool:
        """Whether the model is loaded, which says nothing of its processes."""

    def find_processes(self, model: str) -> frozenset[int]:
        """The processes of the model's instances that are alive, a stopped one not among them."""

    def is_process(self, model: str, process: int) -> bool:
        """Whether `process` is one of them; far quicker."""

    def end_processes(self, model: str) -> None:
        """Kill the processes of the model's instances, as far as there are any."""

    def unload(self, model: str) -> None:
        """Begin to unload; raises Unavailable."""

    def load(self, model: str) -> None:
        """Load, and return when it is ready; raises Unavailable."""

    def clean_up(self) -> None:
        """Remove what processes that died have left behind."""


@dataclass
class _Record:
    """What is known of one model."""

    processes: frozenset[int] = frozenset()  # when it last did its part of a request
    repairs: int = 0  # in a row, without a request done between them
    ended: float = float("-inf")  # when the last one was over
    thread: threading.Thread | None = None

    def pause(self) -> float:
        """Seconds until the next repair may begin."""
        if not self.repairs:
            return 0.0
        after = min(FIRST_PAUSE_S * 2 ** (self.repairs - 1), LONGEST_PAUSE_S)
        return max(0.0, self.ended + after - time.monotonic())


class Repairs:
    """Repairs models on threads of their own, one at a time for each model among all processes of a server."""

    def __init__(self, control: ModelControl, ask: Callable[[str], Future[Any]], patience_s: float) -> None:
        """Args: the server's models; a question that a living model answers at once; seconds after which it hangs."""
        self._control, self._ask, self._patience_s = control, ask, patience_s
        self._records: defaultdict[str, _Record] = defaultdict(_Record)
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
        for model in models:
            record = self._records[model]
            record.repairs = 0
            if not record.processes:
                record.processes = self._control.find_processes(model)

    def look_after(self, model: str) -> None:
        """Repair a model if it needs to be. Returns at once; one that answers is left alone."""
        if refusal := self._control.refusal():
            if not self._has_refused:
                _log.error("model %r failed and cannot be repaired: %s", model, refusal)
            self._has_refused = True
            return
        with self._lock:
            record = self._records[model]
            if record.thread is None or not record.thread.is_alive():
                record.thread = threading.Thread(
                    target=self._repair, args=(model, record), name=f"repair-{model}", daemon=True
                )
                record.thread.start()

    def is_usable(self, model: str) -> bool:
        """Whether the model may be called: nobody repairs it, and none of its processes has died since it was used."""
        if is_announced(self._name(model)):
            return False
        record = self._records[model]
        if all(self._control.is_process(model, process) for process in record.processes):
            return True
        if self._control.refusal() or not self._has_died(model, record):  # loaded anew, by another lane say
            return True
        self.look_after(model)
        return False

    def close(self) -> None:
        """Begin no further repair; none is waited for."""
        self._closed.set()

    def _name(self, model: str) -> str:
        return f"repair-{self._control.server}-{model}"

    def _repair(self, model: str, record: _Record) -> None:
        with Claim(self._name(model)) as claim:
            if not claim.held or not self._control.is_ready(model):  # whoever unloaded it had a reason
                return
            if record.repairs:
                claim.announce()
                if self._closed.wait(record.pause()):
                    return
            if not self._has_died(model, record) and self._answers(model):
                return
            claim.announce()
            while not self._load_anew(model, record) and not self._closed.wait(record.pause()):
                if self._control.is_ready(model):  # somebody has seen to it
                    return

    def _has_died(self, model: str, record: _Record) -> bool:
        """Whether there are fewer processes than when it was well, or none."""
        found = self._control.find_processes(model)
        if len(found) < max(1, len(record.processes)):
            return True
        record.processes = found
        return False

    def _answers(self, model: str) -> bool:
        answers = [self._ask(model) for _ in range(PROBES)]
        try:
            return not any(isinstance(answer.exception(), Lost) for answer in as_completed(answers, self._patience_s))
        except FutureTimeoutError:
            return False

    def _load_anew(self, model: str, record: _Record) -> bool:
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
            self._control.clean_up()
            record.processes = frozenset()
            record.repairs += 1
            record.ended = time.monotonic()
