"""Loading LoRAs on threads of their own, each file once, the recent ones kept in host memory."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

from swiftdiffusion.adapters.cache import ByteBoundedCache
from swiftdiffusion.adapters.chunk_copier import ChunkCopier
from swiftdiffusion.adapters.copy_stream import copy_stream
from swiftdiffusion.adapters.layout import LoraLayout
from swiftdiffusion.adapters.layouts import Layouts
from swiftdiffusion.adapters.lora_plan import LoraPlan
from swiftdiffusion.adapters.pending import PendingLoras
from swiftdiffusion.adapters.profile import AdapterProfile, read_profile
from swiftdiffusion.adapters.safetensors_file import Header, MalformedFileError
from swiftdiffusion.adapters.store import AdapterFile, AdapterStore
from swiftdiffusion.adapters.targets import TEXT_ENCODERS, Targets
from swiftdiffusion.adapters.weights import LoraWeights, ScaledLora, read_weights
from swiftdiffusion.daemon_threads import DaemonThreads
from swiftdiffusion.errors import InvalidArgument, Unavailable

LAYOUTS_KEPT = 64  # about 1 MB each for SDXL
PLANS_KEPT = 8  # about 2 MB each, with the headers that they are for
ATTEMPTS = 2
CLOSE_S = 5.0  # for loads under way; a disk or a store that hangs is not waited for


@dataclass(frozen=True)
class FoundLora:
    """A LoRA that exists and fits the pipeline."""

    file: AdapterFile
    layout: LoraLayout
    profile: AdapterProfile | None  # how late it may come, if that was measured

    @property
    def changes_prompts(self) -> bool:
        """Whether it has a part for a text encoder; one without leaves the prompts' embeddings alone."""
        return not self.layout.networks.isdisjoint(TEXT_ENCODERS)


class LoadTimes(NamedTuple):
    """One load's course, in seconds of the machine's monotonic clock."""

    begun: float
    fetched: float  # the file is on this machine; the same as `begun` where the host cache had the LoRA
    ready: float  # read, and copied to the device


class LoraLoader:
    """Turns names into factors for the networks that this process runs. Thread-safe.

    `networks` are the ones to read; a file is checked against all of `targets`. At most `threads`
    files are loaded at a time, each in several chunks, and `cache_bytes` of host memory keep what was
    read. Factors arrive on `device` in the file's dtype, on a stream of their own.
    """

    def __init__(
        self,
        store: AdapterStore,
        targets: Targets,
        networks: Sequence[str] = ("unet",),
        device: torch.device | str = "cpu",
        cache_bytes: int = 2**30,
        threads: int = 2,
    ) -> None:
        self._store = store
        self._device = torch.empty(0, device=device).device  # with the index that "cuda" leaves open
        self._copier = ChunkCopier(self._device)
        self._cache: ByteBoundedCache[AdapterFile, LoraWeights] = ByteBoundedCache(cache_bytes)
        self._layouts = Layouts(targets, LAYOUTS_KEPT)
        self._read_layout = lru_cache(maxsize=LAYOUTS_KEPT)(self._read_layout_uncached)
        self._plan = lru_cache(maxsize=PLANS_KEPT)(lambda header, layout: LoraPlan(header, layout, networks))
        self._threads = DaemonThreads(threads, "lora-loader")
        self._lock = threading.Lock()
        self._loading: dict[AdapterFile, Future[LoraWeights]] = {}
        self._times: WeakKeyDictionary[LoraWeights, LoadTimes] = WeakKeyDictionary()
        self._closed = False

    def inspect(self, name: str) -> FoundLora:
        """Check from the file's header that a LoRA exists and fits the pipeline.

        Raises `InvalidArgument` or `NotFound` (see `AdapterStore.find`, `lay_out`), `Unavailable`
        if the store cannot be read.
        """
        file = self._store.find(name)
        if not (self.holds(file) or self._closed):
            self._copier.submit(self._store.read_ahead, file)  # the disk need not wait until the header is understood
        return FoundLora(file, self._layout_of(file)[1], read_profile(self._store, file))

    def holds(self, file: AdapterFile) -> bool:
        """Whether the host cache has it now."""
        return file in self._cache

    def times_of(self, weights: LoraWeights) -> LoadTimes | None:
        """When a LoRA that `load` gave was loaded."""
        return self._times.get(weights)

    def load(self, file: AdapterFile) -> Future[LoraWeights]:
        """Start to load a LoRA, or join the load that is under way; the future must not be cancelled.

        Raises `Unavailable` once closed. The future raises what `inspect` raises, `InvalidArgument`
        for values that are not finite and `Unavailable` for a file that changed while it was read.
        """
        with self._lock:
            self._refuse_if_closed(file)
            if file in self._loading:
                return self._loading[file]
            cached = self._cache.get(file)
            if cached is not None and cached.block.memory.device == self._device:
                future: Future[LoraWeights] = Future()
                future.set_result(cached)
                return future
            future = self._threads.submit(self._fetch, file)
            self._loading[file] = future
        future.add_done_callback(lambda _: self._forget(file))
        return future

    def begin(
        self,
        files: Sequence[AdapterFile],
        scales: Sequence[float],
        prepare: Callable[[Sequence[ScaledLora]], Any] = lambda loras: None,
    ) -> PendingLoras:
        """Start to load a request's LoRAs; raises what `load` raises. Lengths must be equal; see `PendingLoras`."""
        names = [file.name for file in files]
        return PendingLoras(names, tuple(scales), [self.load(file) for file in files], prepare)

    def close(self) -> None:
        """Give up downloads and fail the queued loads, both with `Unavailable`; wait a little for those under way.

        The store is closed too.
        """
        with self._lock:
            self._closed = True
        self._store.close()
        self._threads.close(CLOSE_S)
        self._copier.close(0)

    def _forget(self, file: AdapterFile) -> None:
        with self._lock:
            self._loading.pop(file, None)

    def _refuse_if_closed(self, file: AdapterFile) -> None:
        if self._closed:
            raise Unavailable(f"LoRA {file.name!r} cannot be loaded: the server is shutting down.")

    def _fetch(self, file: AdapterFile) -> LoraWeights:
        self._refuse_if_closed(file)
        begun = fetched = time.monotonic()
        on_host = self._cache.get(file)
        with copy_stream(self._device).use():
            if on_host is None:
                on_host, weights, fetched = self._read(file)
                if (name := weights.block.find_not_finite()) is not None:
                    raise InvalidArgument(
                        f"LoRA {file.name!r} has a value in {name!r} that is infinite or not a number."
                    )
            else:
                weights = replace(on_host, block=self._copier.copy(on_host.block))
            if not weights.plan.is_plain:
                _ = weights.networks  # what must be computed, on this stream and thread
        copy_stream(self._device).mark().wait_on_host()
        self._times[weights] = LoadTimes(begun, fetched, time.monotonic())
        self._cache.put(file, on_host)
        return weights

    def _read(self, file: AdapterFile) -> tuple[LoraWeights, LoraWeights, float]:
        """The LoRA on the host and on the device, and when its file was there."""
        plan = self._plan(*self._layout_of(file))
        try:
            for attempt in range(ATTEMPTS):
                path = self._store.fetch(file)
                fetched = time.monotonic()
                try:
                    on_host, weights = read_weights(file, path, plan, self._copier)
                    break
                except FileNotFoundError:  # the copy was dropped for another one before it was opened
                    if attempt == ATTEMPTS - 1:
                        raise
        except (MalformedFileError, OSError) as error:
            self._refuse_if_changed(file)
            raise _explain(file, error) from error
        self._refuse_if_changed(file)
        return on_host, weights, fetched

    def _refuse_if_changed(self, file: AdapterFile) -> None:
        if not self._store.is_current(file):
            self._store.find(file.name)
            raise Unavailable(f"LoRA {file.name!r} changed while it was being read; try again.")

    def _layout_of(self, file: AdapterFile) -> tuple[Header, LoraLayout]:
        try:
            return self._read_layout(file)
        except (MalformedFileError, OSError) as error:
            raise _explain(file, error) from error

    def _read_layout_uncached(self, file: AdapterFile) -> tuple[Header, LoraLayout]:
        header = self._store.read_header(file)
        return header, self._layouts.find(file.name, header)


def _explain(file: AdapterFile, error: MalformedFileError | OSError) -> InvalidArgument | Unavailable:
    if isinstance(error, OSError):
        return Unavailable(f"LoRA {file.name!r} cannot be read: {error.strerror or type(error).__name__}.")
    return InvalidArgument(f"LoRA {file.name!r} {error}.")
