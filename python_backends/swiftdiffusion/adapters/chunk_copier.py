"""A LoRA's way from its file to a device, in chunks: while one is copied, the next ones are read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from swiftdiffusion.adapters.copy_stream import Mark, copy_stream
from swiftdiffusion.adapters.tensor_block import TensorBlock
from swiftdiffusion.daemon_threads import DaemonThreads

CHUNK = 8 * 2**20  # bytes: enough for a disk's full speed, little beside a file
THREADS = 4  # as many chunks are read at a time; one alone leaves a disk with little to do


class _Buffer(NamedTuple):
    """A chunk of pinned memory, free once what was copied from it is done."""

    memory: Tensor
    copied: Mark


class ChunkCopier:
    """Threads for one device; for any number of callers, whose chunks are done in the order in which they came.

    A GPU copies by itself only from pinned memory, which takes long to allocate. There is one chunk of that for each
    thread, from the start: no request waits for it, its amount is bounded, and the host cache is memory like any other.
    """

    def __init__(self, device: torch.device, threads: int = THREADS) -> None:
        self.device = device
        self._threads = DaemonThreads(threads, "lora-copier")
        self._buffers: SimpleQueue[_Buffer] = SimpleQueue()
        for _ in range(threads if device.type == "cuda" else 0):
            self._buffers.put(_Buffer(torch.empty(CHUNK, dtype=torch.uint8, pin_memory=True), Mark(None)))

    def copy(self, block: TensorBlock, read: Callable[[int, int], None] = lambda start, end: None) -> TensorBlock:
        """Fill a block of host memory and copy it to the device, enqueued on the device's `copy_stream`.

        Args:
            block: on the host.
            read: fills bytes `start` to `end` of the block; left out for one that is full already.

        Returns:
            The block on the device; the same one where that is the host.

        Raises:
            Exception: what `read` raised; nothing reads any more then.
            Unavailable: it is closed.
        """
        on_host = self.device.type == block.memory.device.type
        target = block if on_host else block.allocate_on(self.device)
        starts = range(0, len(block.memory), CHUNK)
        chunks = [self._threads.submit(self._copy_chunk, block.memory, target.memory, start, read) for start in starts]
        _, rest = wait(chunks, return_when=FIRST_EXCEPTION)
        for chunk in rest:
            chunk.cancel()
        wait(rest)
        for chunk in chunks:
            if not chunk.cancelled():
                chunk.result()
        return target

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have one of the threads do something else that waits for disks; raises `Unavailable` once closed."""
        return self._threads.submit(work, *arguments)

    def close(self, timeout_s: float) -> None:
        """Begin nothing more, and wait up to `timeout_s` for what was begun."""
        self._threads.close(timeout_s)

    def _copy_chunk(self, source: Tensor, target: Tensor, start: int, read: Callable[[int, int], None]) -> None:
        part = source[start : start + CHUNK]
        read(start, start + len(part))
        if source is target:
            return
        memory, copied = self._buffers.get()
        try:
            copied.wait_on_host()
            np.copyto(memory[: len(part)].numpy(), part.numpy())  # on this thread alone; torch would wake a team
            with copy_stream(self.device).use():
                target[start : start + len(part)].copy_(memory[: len(part)], non_blocking=True)
                copied = copy_stream(self.device).mark()
        finally:
            self._buffers.put(_Buffer(memory, copied))
