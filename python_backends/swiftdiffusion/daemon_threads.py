"""Threads for work that may never return, or goes on all the time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from swiftdiffusion.errors import Unavailable

Result = TypeVar("Result")


class DaemonThreads:
    """At most `count` threads, started when they are needed, for which neither `close` nor the process's end waits.

    `concurrent.futures`' executors join their threads when the interpreter ends, however long that takes.
    """

    def __init__(self, count: int, name: str) -> None:
        """Args: how many run at a time, and what debuggers call them."""
        self._count, self._name = count, name
        self._queued: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._free = 0  # threads that wait for work
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._changed = threading.Condition()  # over all of these

    def submit(self, work: Callable[..., Result], *args: Any) -> Future[Result]:
        """Have `work(*args)` done as soon as a thread is free; raises Unavailable once closed."""
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                raise Unavailable("the server is shutting down")
            self._queued.append((future, work, args))
            if len(self._queued) > self._free and len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
        return future

    def close(self, timeout_s: float) -> bool:
        """Take no more work and wait up to `timeout_s` for what was submitted; returns whether all of it was done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._free += 1
                self._changed.wait_for(lambda: self._queued or self._closed)
                self._free -= 1
                if not self._queued:
                    return
                item = self._queued.popleft()
            _do(*item)
            del item  # what it holds is not kept until the next one comes


def _do(future: Future[Any], work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work(*args))
    except BaseException as error:
        future.set_exception(error)
        del future  # the error holds this frame: in a circle both would stay until Python looks for such


@contextmanager
def repeated(work: Callable[[], object], every_s: float, name: str) -> Iterator[None]:
    """Within the block, a thread of that name does `work` every so many seconds, whatever else is going on."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            work()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
