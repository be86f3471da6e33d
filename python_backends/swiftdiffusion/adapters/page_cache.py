"""The operating system's cache of files."""

import contextlib
import os
from pathlib import Path

# Linux cuts each request to what the disk takes at a time (`read_ahead_kb`, 128 as it comes; mm/readahead.c,
# force_page_cache_ra): the rest of a larger one would not be read
STRIDE = 128 * 2**10


def read_ahead(path: Path) -> None:
    """Have the disk begin to read a file; waits only where its queue is full, and says nothing of what fails."""
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        for start in range(0, os.fstat(file.fileno()).st_size, STRIDE):
            os.posix_fadvise(file.fileno(), start, STRIDE, os.POSIX_FADV_WILLNEED)
