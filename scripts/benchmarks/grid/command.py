"""ControlNets and LoRAs: this project, stock diffusers and diffusers at its best, each behind tritonserver."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING

from benchmarks.serving.options import add_serving_options
from benchmarks.serving.systems import LABELS, MODELS, OURS, PUBLISHED, AddOns, read_add_ons
from launch.paths import shorten
from launch.problems import LaunchError
from launch.progress import Progress

if TYPE_CHECKING:
    from benchmarks.runs import GrowingReport, Row
    from benchmarks.serving.deployment import Deployment
    from benchmarks.serving.memory import MemoryWatch
    from benchmarks.serving.served import Served

DESCRIPTION = """\
Serve a checkpoint with tritonserver, by this project, by stock diffusers and by diffusers at its best, one after the
other on the same machine, and drive each with perf_analyzer: ControlNets 0 to 3 and LoRAs 0 to 2, one request at a
time, each with LoRAs that nobody has asked for before. On a GPU the checkpoint is SDXL's configuration with random
weights in fp16; without one the small `shapes` in fp32. grid.json is rewritten after each row; with --resume rows that
it has are kept, so that several calls fill one file. grid.png is drawn at the end.
"""


TRACED = 5  # requests of a row whose spans are asked for, after those that are timed


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_serving_options(parser)
    parser.add_argument(
        "--configurations",
        type=read_add_ons,
        nargs="+",
        default=list(PUBLISHED),
        metavar="CONTROLNETS/LORAS",
        help=f"from 0/0 to 3/2 (default: those published, {' '.join(map(str, PUBLISHED))})",
    )
    parser.add_argument("--steps", type=int, nargs="+", metavar="N", help="Euler steps (default: 50 30; of shapes 4)")
    parser.add_argument("--requests", type=int, metavar="N", help="in a row (default: 20; of shapes 3)")
    parser.add_argument("--warm-up", type=int, default=2, metavar="N", help="requests before them (default: 2)")
    parser.add_argument(
        "--cold-files",
        action="store_true",
        help="keep LoRA files out of the kernel's page cache, too (else they are new to the servers only)",
    )
    parser.add_argument(
        "--row-timeout", type=float, default=900.0, metavar="SECONDS", help="for one row (default: %(default)s)"
    )


def work(options: argparse.Namespace) -> int:
    """Measure all rows; 1 if one failed, else 0, whether bars are met or not."""
    # Only now, in the environment: what follows is not of the standard library.
    from benchmarks.grid.promises import judge
    from benchmarks.grid.results import draw_rows, format_rows
    from benchmarks.grid.rows import describe_row, is_same
    from benchmarks.runs import GrowingReport
    from benchmarks.serving.deployment import Deployment
    from benchmarks.serving.memory import MemoryWatch, list_visible_gpus

    with Progress("preparing the checkpoint") as progress:
        deployment = Deployment(options, progress)
    checkpoint = deployment.checkpoint
    small = checkpoint.name == "shapes"
    steps_of_rows = options.steps or ([4] if small else [50, 30])
    requests = options.requests or (3 if small else 20)
    report = GrowingReport(
        "grid",
        sys.argv[1:],
        options.out / "grid.json",
        is_same,
        judge if checkpoint.name == "sdxl" else lambda rows: judge([]),
        options.resume,
        checkpoint=checkpoint.name,
        note=checkpoint.note,
    )
    with MemoryWatch(list_visible_gpus()) as memory:
        for system in options.systems:
            rows = [(add_ons, steps) for steps in steps_of_rows for add_ons in options.configurations]
            wanted = [row for row in rows if not report.has(describe_row(system, *row, deployment.describe(system)))]
            if wanted:
                measure_system(system, wanted, requests, options, deployment, memory, report)
    print(format_rows(report.rows, report.bars))
    draw_rows(report.rows, checkpoint.name).save(options.out / "grid.png")
    print(f"\nSaved in {shorten(options.out)}/: grid.json, grid.png")
    return int(any("failed" in row for row in report.rows))


def measure_system(
    system: str,
    rows: list[tuple[AddOns, int]],
    requests: int,
    options: argparse.Namespace,
    deployment: Deployment,
    memory: MemoryWatch,
    report: GrowingReport,
) -> None:
    """Serve one system and measure its rows; what fails becomes a row that says so."""
    from benchmarks.grid.rows import describe_row

    with Progress(f"measuring {LABELS[system]}") as progress:
        try:
            with deployment.serve(system, progress) as served:
                for add_ons, steps in rows:
                    progress.update(f"{add_ons}, {steps} steps")
                    progress.pulse()
                    row = describe_row(system, add_ons, steps, deployment.describe(system))
                    try:
                        memory.restart()
                        row |= measure_row(system, add_ons, steps, requests, options, deployment, served)
                        row["peak_memory_gb"] = memory.peaks_gb()
                    except LaunchError as problem:
                        row["failed"] = str(problem)
                    report.add(row)
        except LaunchError as problem:
            for add_ons, steps in rows:
                row = describe_row(system, add_ons, steps, deployment.describe(system))
                if not report.has(row):
                    report.add({**row, "failed": str(problem)})


def measure_row(
    system: str,
    add_ons: AddOns,
    steps: int,
    requests: int,
    options: argparse.Namespace,
    deployment: Deployment,
    served: Served,
) -> Row:
    """Drive one row with perf_analyzer; raises LaunchError where a request fails."""
    from benchmarks.grid.outside import measure_outside
    from benchmarks.grid.rows import summarise
    from benchmarks.serving.checkpoints import draw_grid_requests
    from benchmarks.serving.load import measure_load

    drawn = draw_grid_requests(deployment.checkpoint, served.adapters, add_ons, steps, options.output_format)
    chosen = list(islice(drawn, options.warm_up + requests))
    with served.adapters.kept_cold() if options.cold_files else nullcontext():
        answered = measure_load(served.http_url, MODELS[system], chosen, options.row_timeout)[options.warm_up :]
    row = summarise(answered, served.count_gpus(chosen[0].get("controlnets", [])))
    row |= {"cold_files": options.cold_files, "output_format": options.output_format}
    if system == OURS:
        row["outside"] = measure_outside(served.grpc_url, list(islice(drawn, TRACED)), answered)
    return row
