"""The Python interpreter of a process that serves, which its threads share."""

from __future__ import annotations

import gc
import sys

# A thread that comes back from torch, a disk or a GPU, as one that denoises does some dozens of times a step, waits for
# one that computes in Python until that is asked to let go. Python's own 5 ms, so many times, would be several steps.
SWITCH_S = 1e-4


def shorten_pauses() -> None:
    """Have no thread wait long for another one; for a process that has loaded what it keeps.

    Python's full collections stop all threads while they look at every object: with torch and a network some hundreds
    of milliseconds, at any time. What is here now stays, so none looks at it again (`gc.freeze`).
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
