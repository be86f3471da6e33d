"""The way of one step's residuals from a ControlNet's process to the lane's, without Triton and without networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.controlnets.ready_service import READY, make_residuals
from benchmarks.controlnets.rows import DATA_PATH, describe_lack, describe_row, find_row, leave_out
from benchmarks.runs import GrowingReport, Row
from launch.children import end_group
from launch.problems import LaunchError
from launch.progress import Progress
from sdxl.architecture import PIXELS_PER_LATENT, describe_controlnet
from swiftdiffusion.controlnets.attachment import Attachment, Subject, Terms
from swiftdiffusion.controlnets.ipc_link import IpcLink
from swiftdiffusion.controlnets.mailbox import Form, MailboxPool
from swiftdiffusion.controlnets.messages import IPC
from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.networks.controlnet import ControlNet
from swiftdiffusion.placement import DTYPES, Placement
from swiftdiffusion.services.clients import Call

SIDE, BATCH, CHANNELS, DTYPE = 1024, 2, 4, "fp16"
STEPS = 50  # of each way of taking them
WORK_SIDE, WORK_PRODUCTS = 8192, 2  # products of matrices that keep the lane's GPU busy, about 3 ms: an encoder half
REPEATS = 10  # requests that are attached, after a first one
NAME = "ready"


def measure_data_path(report: GrowingReport, repeats: int, progress: Progress) -> None:
    """Add a row for a ControlNet on the second GPU and one for the same GPU, as far as there are GPUs."""
    gpus = torch.cuda.device_count()
    for name, gpu in (("far", 1), ("near", 0)):
        if gpu >= gpus:
            leave_out(report, DATA_PATH, name, describe_lack(gpu + 1, gpus))
        elif not find_row(report.rows, DATA_PATH, name):
            progress.update(f"residuals from GPU {gpu} to GPU 0")
            report.add(describe_row(DATA_PATH, name) | measure_pushes(gpu, repeats))


def count_residuals() -> int:
    """How many values SDXL's ControlNet gives in a guided step at 1024 x 1024."""
    side = SIDE // PIXELS_PER_LATENT
    return ControlNet(describe_controlnet()).count_residuals(BATCH, side, side)


def measure_pushes(gpu: int, repeats: int) -> Row:
    """Have residuals pushed from a process on `gpu` to this one on the first.

    Returns:
        Medians. `step_ms`: what the lane's stream waits for a step's residuals if they cost nothing to compute, from
        laying the sample into the mailbox; `back_to_back_ms`: a step where nothing lies between them, which the
        service's host paces; `attach_ms` and `release_ms`: of a request, the first apart, whose memory is new.
    """
    lane = Placement(torch.device("cuda:0"), DTYPES[DTYPE])
    side = SIDE // PIXELS_PER_LATENT
    form = Form(lane.device, lane.dtype, (BATCH, CHANNELS, side, side), count_residuals())
    expected = make_residuals(form.residuals, lane)
    pool = MailboxPool(1)
    measured: list[Pushed] = []
    try:
        with start_service(f"cuda:{gpu}", form, 2 * STEPS) as call:
            for _ in range(repeats + 1):
                measured.append(push_once(call, form, pool, expected))
    finally:
        pool.close()
    first, *others = measured
    steps = [step for one in others for step in one.steps_ms]
    return {
        "megabytes": round(form.residuals * form.dtype.itemsize / 1e6, 3),
        "gpus": [gpu, 0],
        "repeats": repeats,
        "step_ms": round(median(steps), 4),
        "step_p99_ms": round(float(np.quantile(steps, 0.99)), 4),
        "back_to_back_ms": round(median(one.back_to_back_ms for one in others), 4),
        "attach_ms": round(median(one.attach_ms for one in others), 3),
        "release_ms": round(median(one.release_ms for one in others), 3),
        "first_attach_ms": round(first.attach_ms, 3),
    }


def give_nothing(attachment: Attachment) -> None:
    """Offer it memory, and give it a reference and prompts of which its process makes nothing."""
    attachment.prepare(lambda: None)
    image: Future[NDArray[np.uint8]] = Future()
    image.set_result(np.zeros((1, 1, 3), np.uint8))
    attachment.show(image)
    attachment.hand_over(Conditioning(*(torch.zeros((1, 1)) for _ in fields(Conditioning))))


@dataclass(frozen=True)
class Pushed:
    """One attached request's times."""

    attach_ms: float
    steps_ms: list[float]
    back_to_back_ms: float
    release_ms: float


def push_once(call: Call, form: Form, pool: MailboxPool, expected: Tensor) -> Pushed:
    """Attach, take `STEPS` steps beside other work and as many without, and let go.

    Raises LaunchError where what came is not what was sent.
    """
    start = time.perf_counter()
    attachment = Attachment(call, NAME, NAME, make_subject(form, 2 * STEPS), Terms(transport=IPC), pool)
    try:
        give_nothing(attachment)
        link = attachment.wait(lambda: None)
        attached = time.perf_counter()
        assert isinstance(link, IpcLink)
        sample, timestep = torch.zeros(form.sample, dtype=form.dtype, device=form.device), torch.zeros(())
        steps_ms = time_steps(link, sample, timestep)
        torch.cuda.synchronize()
        resumed = time.perf_counter()
        for _ in range(STEPS):
            link.start_step(sample, timestep)
            link.residuals()
        torch.cuda.synchronize()
        over = time.perf_counter()
        attachment.check()
        if not torch.equal(link.residuals(), expected):
            raise LaunchError("the residuals that came are not those that were sent")
        torch.cuda.synchronize()
    finally:
        closing = time.perf_counter()
        attachment.close()
    released = time.perf_counter()
    return Pushed(1e3 * (attached - start), steps_ms, 1e3 * (over - resumed) / STEPS, 1e3 * (released - closing))


def time_steps(link: IpcLink, sample: Tensor, timestep: Tensor) -> list[float]:
    """Milliseconds of each of `STEPS` steps on the lane's stream, each after work such as a UNet's."""
    matrix = torch.zeros((WORK_SIDE, WORK_SIDE), dtype=sample.dtype, device=sample.device)
    times = []
    for _ in range(STEPS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(WORK_PRODUCTS):  # the host is ahead of the GPU when these are done
            torch.mm(matrix, matrix)
        start.record()
        link.start_step(sample, timestep)
        link.residuals()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def make_subject(form: Form, steps: int) -> Subject:
    """A request's part in attaching; its tensors go by Triton's call, which is not made here."""
    return Subject(torch.zeros(steps), form)


@contextmanager
def start_service(device: str, form: Form, steps: int) -> Iterator[Call]:
    """A process of `ready_service`, for requests of `steps` steps; gives what attaches one to it."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    described = {
        "device": device,
        "dtype": names[form.dtype],
        "sample": form.sample,
        "residuals": form.residuals,
        "steps": steps,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.controlnets.ready_service", json.dumps(described)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,  # its process group is then all that it starts
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin = process.stdin

    def attach(model: str, contract: Any, inputs: Any) -> Future[dict[str, Any]]:
        answer: Future[dict[str, Any]] = Future()
        stdin.write(inputs["session"][0].decode() + "\n")
        stdin.flush()
        answer.set_result({})
        return answer

    try:
        if process.stdout.readline().strip() != READY:
            raise LaunchError("the process that stands for a ControlNet did not start; what it printed says why")
        yield attach
    finally:
        end_group(process)
        stdin.close()
        process.stdout.close()
