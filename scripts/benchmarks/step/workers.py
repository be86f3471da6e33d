"""Starting the benchmark's processes and listening to them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.step.settings import Job
from launch.children import end_group, has_ended
from launch.interrupts import check_interrupts
from launch.progress import Progress

POLL_SECONDS = 0.2
EXIT_SECONDS = 30.0


class Worker:
    """A process that does a job, and its events as they come."""

    def __init__(self, job: Job, log: Path, variables: Mapping[str, str]) -> None:
        """Start it, its output appended to `log`, with `variables` set in its environment."""
        self.job = job
        self._log = log.name
        self._rest = b""
        self._reading, writing = os.pipe()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.step.worker", str(writing), job.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables},
                start_new_session=True,  # its process group is then all that it starts
            )
        os.close(writing)

    def fileno(self) -> int:
        """What to wait for."""
        return self._reading

    def read(self) -> list[dict[str, Any]] | None:
        """The events since the last call; None once its side is closed. Waits where there is nothing to read."""
        data = os.read(self._reading, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines] if data else None

    @property
    def ended(self) -> bool:
        """Whether its process is over; a process of its own, a compiler's say, may still hold its side open."""
        return self._process.poll() is not None

    def conclude(self) -> str | None:
        """Wait for its end, and say what was wrong with it, if anything."""
        if has_ended(self._process, within=EXIT_SECONDS) and not self._process.returncode:
            return None
        return f"its process ended with code {self._process.returncode}: see {self._log}"

    def close(self) -> None:
        """End it and all that it started."""
        end_group(self._process)
        os.close(self._reading)


def run_workers(
    jobs: Sequence[tuple[Job, Mapping[str, str]]], progress: Progress, log: Path, timeout_s: float
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Do jobs at the same time, each in a process, and give their events, but for `telling`, which `progress` shows.

    Args:
        jobs: what is to be done, and variables for the process's environment.
        progress: shows what goes on.
        log: the processes' output is appended to it.
        timeout_s: how long they may take.

    Yields:
        The job and an event as `worker` describes them, and at the end one of the kind `failed` with a sentence if its
        process did not end well.
    """
    deadline = time.monotonic() + timeout_s
    with ExitStack() as stack:
        working = []
        for job, variables in jobs:
            working.append(Worker(job, log, variables))
            stack.callback(working[-1].close)
        tellings: dict[Worker, str] = {}
        while working and time.monotonic() < deadline:
            check_interrupts()
            progress.pulse()
            ended = [worker for worker in working if worker.ended]
            ready = select.select(working, [], [], POLL_SECONDS)[0]
            for worker in [worker for worker in working if worker in ready or worker in ended]:
                events = worker.read() if worker in ready else None
                if events is None:
                    working.remove(worker)
                    tellings.pop(worker, None)
                    if sentence := worker.conclude():
                        yield worker.job, {"kind": "failed", "sentence": sentence}
                for event in events or ():
                    if event["kind"] == "telling":
                        tellings[worker] = event["text"]
                        progress.update("; ".join(tellings.values()))
                    else:
                        yield worker.job, event
        for worker in working:
            yield worker.job, {"kind": "failed", "sentence": f"stopped after {timeout_s:.0f} s"}
