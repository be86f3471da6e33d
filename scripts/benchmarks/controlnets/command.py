"""ControlNets on another GPU and guidance on two: what a step takes, the data path, and processes that die."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from launch.paths import OUTPUTS, shorten
from launch.problems import LaunchError
from launch.progress import Progress

if TYPE_CHECKING:
    from benchmarks.runs import GrowingReport

DESCRIPTION = """\
Measure ControlNets as a service. `steps`: what a denoising step takes without a ControlNet, with one on the second GPU,
with one on the same GPU, with tensors by BLS, and with guidance on two GPUs, in one tritonserver; and whether the
pictures are the same. `data_path`: the residuals of one SDXL step from process to process, without Triton. `failures`:
the ControlNet's process is killed between two steps of a request, again and again; what the sender is told and when,
and whether the next requests are right. `soak`: requests with random ControlNets, of which there are more than there is
room for. These two draw with the small `shapes`, with a GPU over its memory alone, and judge what GPUs, /dev/shm and
the server's processes hold, so nothing else should run. On GPUs the checkpoint of `steps` is SDXL's configuration with
random weights in fp16; without one it is `shapes` in fp32. What takes more GPUs than there are is left out, which the
report says. controlnets.json is rewritten after each row; with --resume rows that it has are kept, so that several
calls, on several machines, fill one file. controlnets.png is drawn at the end.
"""
PARTS = ("steps", "data_path", "failures", "soak")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument(
        "--out", type=Path, default=OUTPUTS / "benchmark", metavar="FOLDER", help="default: outputs/benchmark"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument(
        "--checkpoint", choices=("sdxl", "shapes"), help="of `steps` (default: sdxl on a GPU, shapes without one)"
    )
    parser.add_argument(
        "--checkpoint-folder",
        type=Path,
        metavar="FOLDER",
        help="where it is written if it is not there (default: outputs/benchmark/<checkpoint>)",
    )
    parser.add_argument("--engine", default="auto", help="as the models' parameter (default: auto)")
    parser.add_argument(
        "--steps",
        type=_count,
        nargs=2,
        metavar="N",
        help="of the two lengths of request from which a step's time follows (default: 10 50; of shapes 2 10)",
    )
    parser.add_argument(
        "--slow-steps", type=_count, nargs=2, metavar="N", help="the same for BLS (default: 1 4; of shapes 2 10)"
    )
    parser.add_argument("--repeats", type=_count, default=5, metavar="N", help="of `steps` (default: %(default)s)")
    parser.add_argument("--kills", type=_count, metavar="N", help="of `failures` (default: 20; without a GPU 2)")
    parser.add_argument("--requests", type=_count, metavar="N", help="of `soak` (default: 200; without a GPU 20)")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the JSON has, and add to them")


def work(options: argparse.Namespace) -> int:
    """Measure the parts one after the other; 1 if something failed, else 0, whether bars are met or not."""
    # Only now, in the environment: what follows is not of the standard library.
    import torch

    from benchmarks.controlnets.promises import judge
    from benchmarks.controlnets.results import draw_rows, format_rows
    from benchmarks.controlnets.rows import describe_row, is_same
    from benchmarks.runs import GrowingReport

    checkpoint = options.checkpoint or ("sdxl" if torch.cuda.is_available() else "shapes")
    if checkpoint == "sdxl" and not torch.cuda.is_available():
        raise LaunchError("--checkpoint is 'sdxl', which takes a GPU; allowed here: shapes")
    for name in ("steps", "slow_steps"):
        lengths = getattr(options, name)
        if lengths and lengths[0] >= lengths[1]:
            raise LaunchError(
                f"--{name.replace('_', '-')} is {lengths[0]} {lengths[1]}; allowed: fewer first, then more"
            )
    report = GrowingReport(
        "controlnets",
        sys.argv[1:],
        options.out / "controlnets.json",
        is_same,
        judge,
        options.resume,
        checkpoint=checkpoint,
    )
    for part in options.parts:
        with Progress(f"measuring {part}") as progress:
            whole = describe_row(part, "all")
            report.remove(whole)
            try:
                measure(part, checkpoint, options, report, progress)
            except LaunchError as problem:
                report.add({**whole, "failed": str(problem)})
    print(format_rows(report.rows, report.bars, report.runs))
    draw_rows(report.rows, checkpoint).save(options.out / "controlnets.png")
    print(f"\nSaved in {shorten(options.out)}/: controlnets.json, controlnets.png")
    return int(any("failed" in row for row in report.rows))


def measure(part: str, checkpoint: str, options: argparse.Namespace, report: GrowingReport, progress: Progress) -> None:
    """Add a part's rows to the report; raises LaunchError where that is not possible."""
    import torch

    if part == "data_path":
        from benchmarks.controlnets.data_path import REPEATS, measure_data_path

        measure_data_path(report, REPEATS, progress)
        return
    from benchmarks.serving.checkpoints import prepare_checkpoint

    name = checkpoint if part == "steps" else "shapes"
    folder = OUTPUTS / "benchmark" / name
    if part == "steps" and options.checkpoint_folder:
        folder = options.checkpoint_folder.absolute()
    served = prepare_checkpoint(name, folder, progress)
    on_gpu = torch.cuda.is_available()
    if part == "steps":
        from benchmarks.controlnets.steps import Counts, measure_steps

        steps, slow_steps = ((10, 50), (1, 4)) if name == "sdxl" else ((2, 10), (2, 10))
        counts = Counts(tuple(options.steps or steps), tuple(options.slow_steps or slow_steps), options.repeats)
        measure_steps(served, folder, options.engine, counts, report, progress)
    elif part == "failures":
        from benchmarks.controlnets.failures import measure_failures

        kills = options.kills or (20 if on_gpu else 2)
        measure_failures(served, folder, options.engine, kills, report, progress)
    else:
        from benchmarks.controlnets.soak import measure_soak

        requests = options.requests or (200 if on_gpu else 20)
        measure_soak(served, folder, options.engine, requests, report, progress)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)
