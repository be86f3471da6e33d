"""The base model: a denoising step, a ControlNet's, the VAE and a whole image, beside diffusers and torch.compile."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.report import describe_run, write_report
from benchmarks.step.results import Results
from benchmarks.step.settings import CAPTURED, LABELS, REFERENCE, SIZES, Job, Settings, Size
from benchmarks.step.workers import run_workers
from launch.paths import OUTPUTS, shorten
from launch.problems import LaunchError
from launch.progress import Progress

DESCRIPTION = """\
Measure diffusers as it comes, its kernels as CUDA graphs, the same with torch.compile, and this project, each in a
process of its own: a UNet step for guidance's batch of two, a ControlNet's step, a VAE decode and a whole image; times,
memory, the error against a finer number type with the same weights, and the time from a start to the first image. The
table is printed; step.json, step.png and step.log are written, the JSON anew after each row. On a GPU SDXL's
configuration is measured, with random weights and in fp16; without one, the small checkpoint `shapes` in fp32.
"""
NAMES = {REFERENCE: "the reference", **LABELS}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument(
        "--out", type=Path, default=OUTPUTS / "benchmark", metavar="FOLDER", help="default: outputs/benchmark"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    parser.add_argument("--checkpoint", choices=SIZES, help="default: sdxl on a GPU, shapes without one")
    parser.add_argument(
        "--sizes",
        type=_size,
        nargs="+",
        metavar="WIDTHxHEIGHT",
        help="pictures' sizes; bars are judged at the first (default: 1024x1024 768x1344 512x512; of shapes 128x128)",
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=LABELS,
        help=f"default: all; {' and '.join(CAPTURED)} take a GPU",
    )
    parser.add_argument(
        "--compile-sizes",
        type=_size,
        nargs="+",
        metavar="WIDTHxHEIGHT",
        help="sizes to measure graph and compile at; torch.compile takes minutes for each (default: all)",
    )
    parser.add_argument(
        "--gpus",
        type=_count,
        metavar="N",
        help="over which the sizes of graph and compile are shared out: the first size has one to itself; systems that "
        "a host can hold up use the first GPU alone (default: all that there are)",
    )
    parser.add_argument(
        "--restart",
        nargs="*",
        choices=LABELS,
        default=["ours"],
        help="systems whose first image is timed again, with the caches on disk that the first process left "
        "(default: ours)",
    )
    parser.add_argument(
        "--repeats", type=_count, metavar="N", help="times each part is measured (default: 20, without a GPU 3)"
    )
    parser.add_argument("--steps", type=_count, default=30, metavar="N", help="of a whole image (default: 30)")
    parser.add_argument("--engine", default="auto", help="ours, as the models' parameter (default: auto)")
    parser.add_argument(
        "--timeout", type=float, default=1800.0, metavar="SECONDS", help="for one system at all sizes (default: 1800)"
    )


def work(options: argparse.Namespace) -> int:
    """Run all of it; 1 if something could not be measured, else 0, whether bars are met or not."""
    started = time.monotonic()
    settings = make_settings(options)
    gpus = count_gpus(options)
    systems = options.systems or [name for name in LABELS if name not in CAPTURED or settings.device == "cuda"]
    run = describe_run("step", sys.argv[1:])
    described = {**asdict(settings), "dtype": settings.dtype, "reference_dtype": settings.reference_dtype}
    described["sizes"] = [str(size) for size in settings.sizes]
    results = Results({**run, "settings": described})
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "step.log").write_bytes(b"")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for system in (REFERENCE, *systems):
            shares = [settings.sizes]
            if system in CAPTURED:
                shares = share_out(tuple(options.compile_sizes or settings.sizes), gpus)
            jobs = [Job(settings, system, sizes, scratch, gpu) for gpu, sizes in enumerate(shares)]
            measure_system(jobs, options, results)
        for system in (name for name in systems if name in options.restart):
            again = Job(settings, system, settings.sizes[:1], scratch, only_first_image=True)
            measure_system([again], options, results)
    print(results.format_tables())
    results.draw().save(options.out / "step.png")
    print(f"\nAll of it took {time.monotonic() - started:.0f} s. Saved in {shorten(options.out)}/: step.json, step.png")
    return 1 if results.failures else 0


def share_out(sizes: tuple[Size, ...], gpus: int) -> list[tuple[Size, ...]]:
    """The sizes of each GPU: the first size alone, the others in turn."""
    others = [sizes[1:][gpu :: gpus - 1] for gpu in range(gpus - 1)]
    return [sizes[:1], *filter(None, others)] if gpus > 1 else [sizes]


def measure_system(jobs: Sequence[Job], options: argparse.Namespace, results: Results) -> None:
    """Run a system's processes and note what they find."""
    name = NAMES[jobs[0].system] + (", started again" if jobs[0].only_first_image else "")
    with Progress(f"measuring {name}") as progress:
        started = [(replace(job, started=time.monotonic()), make_variables(job)) for job in jobs]
        for job, event in run_workers(started, progress, options.out / "step.log", options.timeout):
            kind = event.pop("kind")
            if kind == "first_image":
                start = "again" if job.only_first_image else "first"
                results.add_first_image(job.system, start, event["seconds"])
            elif kind == "row":
                results.add_row(job.system, event)
            else:
                what = f"{name}, {event['size']}" if "size" in event else name
                results.add_failure(what, event["sentence"])
            write_report(results.as_json(), options.out / "step.json")


def make_variables(job: Job) -> dict[str, str]:
    """A process's environment: its GPU, and caches of its own."""
    caches = Path(job.reference) / f"caches-{job.system}-{job.gpu}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {
        "CUDA_VISIBLE_DEVICES": visible.split(",")[job.gpu] if visible else str(job.gpu),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "OMP_WAIT_POLICY": "PASSIVE",  # a processor that others use too must not be lost to spinning threads
    }


def count_gpus(options: argparse.Namespace) -> int:
    """How many may be used; raises LaunchError for more than there are."""
    import torch

    there = torch.cuda.device_count()
    most = max(there, 1)
    if options.gpus and options.gpus > most:
        raise LaunchError(f"--gpus is {options.gpus}, but torch sees {there}; allowed here: 1 to {most}")
    return options.gpus or most


def make_settings(options: argparse.Namespace) -> Settings:
    """Fill in what the options leave to the machine; raises LaunchError for what it cannot do."""
    import torch

    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        raise LaunchError("--device is 'cuda', but torch sees no GPU; allowed here: auto, cpu")
    device = "cuda" if has_gpu and options.device != "cpu" else "cpu"
    checkpoint = options.checkpoint or ("sdxl" if device == "cuda" else "shapes")
    if checkpoint == "sdxl" and device == "cpu":
        raise LaunchError("--checkpoint is 'sdxl', which takes a GPU; allowed here: shapes")
    for name in CAPTURED:
        if device == "cpu" and name in (options.systems or ()):
            raise LaunchError(f"--systems has {name!r}, which takes a GPU; allowed here: eager, ours")
    sizes = tuple(options.sizes or SIZES[checkpoint])
    for size in options.compile_sizes or ():
        if size not in sizes:
            raise LaunchError(
                f"--compile-sizes has {size}, which is not measured; allowed: {', '.join(map(str, sizes))}"
            )
    return Settings(
        checkpoint=checkpoint,
        device=device,
        sizes=sizes,
        repeats=options.repeats or (20 if device == "cuda" else 3),
        steps=options.steps,
        engine=options.engine,
    )


def _size(text: str) -> Size:
    try:
        return Size.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)
