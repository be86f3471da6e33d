"""A process of the benchmark: one system, so that it starts from nothing, and a crash or a leak stays its own.

`python3 -m benchmarks.step.worker DESCRIPTOR JOB` writes events to the file descriptor, a JSON object a line, told
apart by `kind`: `telling` (`text`), `first_image` (`seconds`), `row` (`size` and what `measure` gives), `failed`
(`size`, `sentence`).
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.step.checkpoints import load_networks
from benchmarks.step.measure import describe_failure, load_reference, make_reference, measure, save_reference
from benchmarks.step.settings import REFERENCE, Job, Size
from benchmarks.step.systems import make_system
from benchmarks.step.workload import make_workload
from swiftdiffusion.placement import DTYPES as SERVED_DTYPES
from swiftdiffusion.placement import Placement

DTYPES = {**SERVED_DTYPES, "fp64": torch.float64}  # in which only a reference is computed

logger = logging.getLogger("benchmarks.step")

Emit = Callable[..., None]


def main() -> None:
    """Do the job on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with os.fdopen(int(sys.argv[1]), "w", buffering=1) as events:

        def emit(kind: str, **values: Any) -> None:
            events.write(json.dumps({"kind": kind, **values}) + "\n")

        run(Job.from_json(sys.argv[2]), emit)


def run(job: Job, emit: Emit) -> None:
    """Make the system anew for each size, so that one size's memory is not the next one's."""
    for size in job.sizes:
        try:
            _run_size(job, size, emit)
        except Exception as error:
            logger.exception("%s at %s", job.system, size)
            emit("failed", size=str(size), sentence=describe_failure(error))
        gc.collect()
        if job.settings.device == "cuda":
            torch.cuda.empty_cache()


def _run_size(job: Job, size: Size, emit: Emit) -> None:
    settings = job.settings
    is_reference = job.system == REFERENCE
    device = torch.device(settings.device)
    dtype = DTYPES[settings.reference_dtype if is_reference else settings.dtype]

    emit("telling", text=f"{size}, weights")
    networks = load_networks(settings.checkpoint, DTYPES[settings.dtype], device, settings.seed)
    if is_reference:
        _compute_exactly()
        for network in (networks.unet, networks.controlnet, networks.vae):
            network.to(dtype)
    system = make_system(job.system, networks, Placement(device, dtype), settings.engine)
    work = make_workload(networks, settings, size, dtype)
    if is_reference:
        emit("telling", text=f"{size}")
        save_reference(make_reference(system, work), Path(job.reference), size)
        return
    if size == settings.sizes[0]:
        emit("telling", text=f"{size}, first image")
        system.image(work)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        emit("first_image", seconds=round(time.monotonic() - job.started, 2))
    if not job.only_first_image:
        reference = load_reference(Path(job.reference), size)
        row = measure(system, work, settings, reference, lambda text: emit("telling", text=text))
        emit("row", size=str(size), **row)


def _compute_exactly() -> None:
    """Give fp32 its full precision on a GPU: PyTorch lets convolutions use TF32 by default."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


if __name__ == "__main__":
    main()
