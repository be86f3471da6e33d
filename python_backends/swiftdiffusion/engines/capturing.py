"""The thread that makes all CUDA graphs of a process, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from swiftdiffusion.daemon_threads import DaemonThreads

Made = TypeVar("Made")

_thread = DaemonThreads(1, "capturing")


def capture_alone(make: Callable[[], Made]) -> Made:
    """What `make` makes, with the caller's current stream, while nothing else in this process is captured.

    torch allows one capture at a time (https://docs.pytorch.org/docs/stable/notes/cuda.html#constraints). And it keeps
    cuDNN's plans of attention for each thread: one that is there for one request would compile its own and leave them.
    """
    stream = torch.cuda.current_stream()

    @torch.inference_mode()
    def run() -> Made:
        with torch.cuda.stream(stream):
            return make()

    return _thread.submit(run).result()
