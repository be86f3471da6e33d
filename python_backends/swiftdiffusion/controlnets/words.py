"""Two counters where two processes and their GPUs meet, with no host in between."""

from __future__ import annotations

import ctypes
import mmap
import os
from enum import IntEnum

import torch

from swiftdiffusion.controlnets import cuda_driver

PAGE_BYTES = 4096
APART = 128  # bytes between the counters, so that they share no cache line
RELEASE = 0x7FFFFFFF  # reaches whatever a stream waits for: waiting compares (word - value) >= 0 in 32 bits


class Word(IntEnum):
    """Which counter."""

    SAMPLES = 0  # that the lane has laid into the mailbox
    RESIDUALS = 1  # that the ControlNet has


class Words:
    """A page of memory without a name, made by `create_page`, mapped here and registered with CUDA."""

    def __init__(self, page: int) -> None:
        """Args: the page's file descriptor, which stays the caller's."""
        self._map = mmap.mmap(page, PAGE_BYTES)
        self._page = (ctypes.c_uint32 * (PAGE_BYTES // 4)).from_buffer(self._map)
        self._address = ctypes.addressof(self._page)
        self._pointer = cuda_driver.register(self._address, PAGE_BYTES)

    def read(self, word: Word) -> int:
        """The counter, as the host sees it now."""
        return self._page[word * APART // 4]

    def write(self, word: Word, value: int) -> None:
        """Set the counter from the host."""
        self._page[word * APART // 4] = value

    def enqueue_wait(self, word: Word, value: int) -> None:
        """Let the current stream go on when the counter has reached `value`."""
        cuda_driver.wait_value(self._pointer + word * APART, value, torch.cuda.current_stream().cuda_stream)

    def enqueue_write(self, word: Word, value: int) -> None:
        """Let the current stream set the counter when all before it is done."""
        cuda_driver.write_value(self._pointer + word * APART, value, torch.cuda.current_stream().cuda_stream)

    def close(self) -> None:
        """Unregister and unmap; no stream may use the counters any more."""
        cuda_driver.unregister(self._address)
        del self._page  # or the map counts as still in use
        self._map.close()


def create_page() -> int:
    """A file descriptor of a zeroed page that vanishes with the last process that holds it."""
    page = os.memfd_create("swiftdiffusion-words", os.MFD_CLOEXEC)
    os.ftruncate(page, PAGE_BYTES)
    return page
