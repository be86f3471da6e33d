"""Runs one tritonserver and clears up after it, whatever becomes of the script that wanted it.

    python3 keeper.py --shared-memory PREFIX --log FILE --folder FOLDER -- tritonserver …

The script holds the other end of standard input and writes nothing: when that closes, because the script asks
for it or is no more, the server is stopped. SIGTERM stops it at once. Before this program exits, with the
server's exit code, every process of the server, its shared-memory segments and FOLDER are gone.
"""

import argparse
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

# Triton waits for requests in flight as long as its --exit-timeout-secs says, and then unloads the models.
STOP_SECONDS = 20.0
REAP_SECONDS = 5.0

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SHARED_MEMORY = Path("/dev/shm")

_libc = ctypes.CDLL(None)


class Keeper:
    """The server's process, and what wakes us: its end, the script's end, SIGTERM."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler is needed for the wake-up byte
        self._stop_now = False
        signal.signal(signal.SIGTERM, self._note_sigterm)
        # Orphans of the server become our children, so that we can see them end.
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        with log.open("wb") as output:
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its process group is then all that it started
                preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )

    def run(self) -> int:
        """Wait for the server's end or a reason to stop it; give its exit code."""
        try:
            self._wait(lifeline=True, seconds=None)
            if self._server.poll() is None and not self._stop_now:
                # While models load tritonserver dies of this, as it should. Not SIGINT: it is lost now and then
                # at that stage, since system(3) ignores it.
                self._server.terminate()
                self._wait(lifeline=False, seconds=STOP_SECONDS)
        finally:
            self._end_group()
        return self._server.wait()

    def _wait(self, *, lifeline: bool, seconds: float | None) -> None:
        """Return when the server ended, SIGTERM came, time is up or, with `lifeline`, the script let go."""
        deadline = None if seconds is None else time.monotonic() + seconds
        sources = [self._woken] + ([sys.stdin.fileno()] if lifeline else [])
        while self._server.poll() is None and not self._stop_now:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            ready, _, _ = select.select(sources, [], [], left)
            if sys.stdin.fileno() in ready:
                return
            if ready:
                os.read(self._woken, 4096)

    def _end_group(self) -> None:
        """Kill what is left of the server's process group and wait until none of it is left."""
        deadline = time.monotonic() + REAP_SECONDS
        while time.monotonic() < deadline:
            try:
                os.killpg(self._server.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self._server.poll()
            _reap_orphans(self._server.pid)
            select.select([self._woken], [], [], 0.01)

    def _note_sigterm(self, *_: object) -> None:
        self._stop_now = True


def _reap_orphans(server: int) -> None:
    """Collect ended grandchildren; the server itself is left to `subprocess`, which keeps its exit code."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == server:
                return
            os.waitpid(ended.si_pid, 0)
        except ChildProcessError:
            return


def main() -> int:
    """Keep one server until its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared-memory", required=True, metavar="PREFIX")
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        return Keeper(options.command, options.log).run()
    finally:
        for segment in SHARED_MEMORY.glob(options.shared_memory + "*"):
            segment.unlink(missing_ok=True)
        shutil.rmtree(options.folder, ignore_errors=True)


if __name__ == "__main__":
    code = main()
    sys.exit(code if code >= 0 else 128 - code)
