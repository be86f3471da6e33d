"""How much memory of the GPUs is in use, watched from outside."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Sequence
from types import TracebackType

import torch

from swiftdiffusion.placement import name_gpu

PERIOD_MS = 200
QUERY = ("nvidia-smi", "--query-gpu=index,memory.used", "--format=csv,noheader,nounits", f"--loop-ms={PERIOD_MS}")


def list_visible_gpus() -> list[str]:
    """Those that torch sees, as nvidia-smi takes them, which does not look at CUDA_VISIBLE_DEVICES."""
    names = [name_gpu(torch.device("cuda", number)) for number in range(torch.cuda.device_count())]
    return [f"GPU-{name.removeprefix('GPU-')}" for name in names]


class MemoryWatch:
    """The most that each GPU has held, in MiB, while the `with` block runs; knows nothing where there is no GPU.

    Whatever uses the GPUs counts, contexts and libraries included, so nothing else should run there.
    """

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        """Watch these, by nvidia-smi's numbers or UUIDs, or all."""
        self._command = (*QUERY, *([f"--id={','.join(gpus)}"] if gpus else []))
        self._process: subprocess.Popen[str] | None = None
        self._peaks: dict[int, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> MemoryWatch:
        """Begin to watch."""
        if shutil.which(QUERY[0]):
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Forget the peaks so far."""
        with self._lock:
            self._peaks = {}

    def peaks_gb(self) -> list[float] | None:
        """The peak of each GPU in GB (10⁹ bytes) since the last restart; None where none was seen."""
        with self._lock:
            return [round(self._peaks[gpu] * 2**20 / 1e9, 2) for gpu in sorted(self._peaks)] or None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            gpu, _, used = line.partition(",")
            if gpu.strip().isdecimal() and used.strip().isdecimal():
                with self._lock:
                    self._peaks[int(gpu)] = max(self._peaks.get(int(gpu), 0), int(used))
