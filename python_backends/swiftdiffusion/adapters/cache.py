"""A least-recently-used cache bounded in bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What the cache can hold."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Sized)


class ByteBoundedCache(Generic[K, V]):
    """Keeps the values used last whose sizes together are at most `limit` bytes. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._nbytes

    def __contains__(self, key: K) -> bool:
        """Whether the value is here; does not count as a use."""
        with self._lock:
            return key in self._entries

    def get(self, key: K) -> V | None:
        """Return the value and count it as used now, or None."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value, dropping the ones used longest ago; one larger than the limit is not kept."""
        with self._lock:
            if key in self._entries:
                self._nbytes -= self._entries.pop(key).nbytes
            if value.nbytes > self._limit:
                return
            self._entries[key] = value
            self._nbytes += value.nbytes
            while self._nbytes > self._limit:
                _, dropped = self._entries.popitem(last=False)
                self._nbytes -= dropped.nbytes
