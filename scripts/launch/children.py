"""Child processes, run to their end or ended."""

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from launch.interrupts import check_interrupts
from launch.problems import LaunchError
from launch.progress import Progress
from launch.tail import Tail

POLL_SECONDS = 0.2
TERMINATE_SECONDS = 5.0
TAIL_LINES = 15


def run_quietly(
    command: Sequence[str],
    log: Path,
    progress: Progress,
    *,
    cwd: Path,
    describe: Callable[[str], str | None] = str.strip,
) -> None:
    """Run `command` to its end with its output appended to `log`.

    What `describe` makes of each new line, unless that is nothing, is shown as progress.
    Raises `LaunchError` with the end of the output if the command fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        tail = Tail(log, start=output.tell())
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its process group is then all that it starts
        )
    try:
        while not has_ended(process, within=POLL_SECONDS):
            check_interrupts()
            for line in tail.read_new():
                if detail := describe(line):
                    progress.update(detail)
            progress.pulse()
    finally:
        end_group(process)
    if process.returncode != 0:
        tail.read_new()
        last_lines = "\n".join(f"  {line}" for line in tail.lines[-TAIL_LINES:])
        raise LaunchError(f"`{' '.join(command)}` failed; the end of {log}:\n{last_lines}")


def has_ended(process: subprocess.Popen, within: float) -> bool:
    """Wait up to `within` seconds for the process to end, and say whether it has."""
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


def end_group(process: subprocess.Popen) -> None:
    """End the process, which leads its process group, and all of that: politely, then not."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        has_ended(process, within=TERMINATE_SECONDS)
    with suppress(ProcessLookupError):  # the usual case: nothing is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
