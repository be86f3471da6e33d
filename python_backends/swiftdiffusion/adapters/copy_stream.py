"""A stream of its own for what LoRAs need on a GPU, so that it runs beside denoising and not in its way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


class CopyStream:
    """One device's; on the CPU, where work is done at once, everything here does nothing."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:  # the networks' weights may still be on their way
            self._stream.wait_stream(torch.cuda.current_stream(device))

    @contextmanager
    def use(self) -> Iterator[None]:
        """Enqueue the block's work on this stream; for any thread."""
        if self._stream is None:
            yield
        else:
            with torch.cuda.stream(self._stream):
                yield

    def mark(self) -> Mark:
        """The point that the stream's work has come to now."""
        if self._stream is None:
            return Mark(None)
        event = torch.cuda.Event(blocking=True)  # who waits sleeps, and leaves the processor to who denoises
        event.record(self._stream)
        return Mark(event)


class Mark:
    """A point in a `CopyStream`."""

    def __init__(self, event: torch.cuda.Event | None) -> None:
        self._event = event

    def wait_on_host(self) -> None:
        """Return when the work up to here is done."""
        if self._event is not None:
            self._event.synchronize()

    def wait_on_device(self) -> None:
        """Have the device's current stream wait, without waiting here."""
        if self._event is not None:
            self._event.wait(torch.cuda.current_stream(self._event.device))


@cache
def copy_stream(device: torch.device) -> CopyStream:
    """The device's only one, so that what one thread enqueued there another may build on; a GPU has its index."""
    return CopyStream(device)
