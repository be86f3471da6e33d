"""Starting the benchmark's processes and listening to them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.step.settings import Job
from launch.children import end_group, has_ended
from launch.interrupts import check_interrupts
from launch.progress import Progress

POLL_SECONDS = 0.2
EXIT_SECONDS = 30.0


def run_worker(
    job: Job, progress: Progress, log: Path, timeout_s: float, variables: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Run `job` in a process and give its events, but for `telling`, which `progress` shows.

    Args:
        job: what is to be done.
        progress: shows what goes on.
        log: the process's output is appended to it.
        timeout_s: how long the process may take.
        variables: set in its environment.

    Yields:
        Events as `worker` describes them, and at the end one of the kind `failed` with a sentence if the process did
        not end well.
    """
    reading, writing = os.pipe()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.step.worker", str(writing), job.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables},
            start_new_session=True,  # its process group is then all that it starts
        )
    os.close(writing)
    deadline = time.monotonic() + timeout_s
    try:
        for line in _read_lines(process, reading, progress, deadline):
            event = json.loads(line)
            if event["kind"] == "telling":
                progress.update(event["text"])
            else:
                yield event
        if time.monotonic() >= deadline:
            yield {"kind": "failed", "sentence": f"stopped after {timeout_s:.0f} s"}
        elif not has_ended(process, within=EXIT_SECONDS) or process.returncode:
            yield {"kind": "failed", "sentence": f"its process ended with code {process.returncode}: see {log.name}"}
    finally:
        end_group(process)
        os.close(reading)


def _read_lines(process: subprocess.Popen, descriptor: int, progress: Progress, deadline: float) -> Iterator[bytes]:
    """Lines as they come, until the process closes its side or ends, or the time is over."""
    rest = b""
    while time.monotonic() < deadline:
        check_interrupts()
        progress.pulse()
        ended = process.poll() is not None
        if not select.select([descriptor], [], [], POLL_SECONDS)[0]:
            if ended:  # a process of its own, a compiler's say, may still hold the other side open
                return
            continue
        data = os.read(descriptor, 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
