"""Threads for pictures' codecs, whose work lets go of the interpreter's lock."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

THREADS_MAX = 8


@cache
def codec_threads() -> ThreadPoolExecutor:
    """The process's own, no more than it has cores; what runs on them waits for none of them."""
    cores = len(os.sched_getaffinity(0))
    return ThreadPoolExecutor(min(cores, THREADS_MAX), thread_name_prefix="codec")
