"""LoRAs: the patch, what one adds to a request, what its lateness costs the picture, and a production-like trace."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import describe_run, write_report
from launch.paths import OUTPUTS, shorten
from launch.problems import LaunchError
from launch.progress import Progress

DESCRIPTION = """\
Measure LoRAs in four parts. `patch`: all 560 attention projections of SDXL at rank 64, patched and restored by one
launch each, against separate products (a GPU). `latency`: a request of 30 steps at 1024 x 1024 with a LoRA of 186 MB
that is in no cache, against one without (a GPU; random weights). `quality`: on the small checkpoint `shapes`, what the
judge and SSIM say of pictures whose LoRA came at each step. `trace`: requests drawn as production's over 60 LoRAs with
room for 10, on `shapes`. Writes loras.json, anew after each part, and loras-quality.png.
"""
PARTS = ("patch", "latency", "quality", "trace")
ON_GPU = ("patch", "latency")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument(
        "--out", type=Path, default=OUTPUTS / "benchmark", metavar="FOLDER", help="default: outputs/benchmark"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, help="default: all on a GPU, without one those that need none"
    )
    parser.add_argument("--rank", type=_count, default=64, metavar="N", help="of the patch (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=_count, default=20, metavar="N", help="of the patch and the latency (default: %(default)s)"
    )
    parser.add_argument(
        "--prompts", type=_count, default=100, metavar="N", help="for each LoRA and bound (default: %(default)s)"
    )
    parser.add_argument(
        "--bounds", type=int, nargs="+", metavar="STEP", help="of 30, the first is compared with (default: ten)"
    )
    parser.add_argument("--requests", type=_count, default=500, metavar="N", help="of the trace (default: %(default)s)")
    parser.add_argument("--adapters", type=_count, default=60, metavar="N", help="of the trace (default: %(default)s)")
    parser.add_argument(
        "--trace-steps", type=_count, default=10, metavar="N", help="of a picture (default: %(default)s)"
    )
    parser.add_argument(
        "--services", nargs="+", choices=("A", "B"), default=["A", "B"], help="of the trace (default: both)"
    )


def work(options: argparse.Namespace) -> int:
    """Measure the parts one after the other."""
    # Only now, in the environment: what follows is not of the standard library.
    import torch

    from benchmarks.loras.judging import describe_results, draw_quality, judge_bars

    has_gpu = torch.cuda.is_available()
    parts = options.parts or [part for part in PARTS if has_gpu or part not in ON_GPU]
    if not has_gpu and (missing := [part for part in parts if part in ON_GPU]):
        raise LaunchError(f"--parts has {missing[0]!r}, which takes a GPU; allowed here: quality, trace")
    if options.bounds and not all(0 <= bound <= 30 for bound in options.bounds):
        raise LaunchError(f"--bounds is {options.bounds}; allowed: steps from 0 to 30")
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = describe_run("loras", sys.argv[1:])
    for part in parts:
        with Progress(f"measuring {part}") as progress:
            report[part] = measure(part, options, progress)
        report["bars"] = {name: bar.as_json() for name, bar in judge_bars(report).items()}
        write_report(report, options.out / "loras.json")
    if "quality" in report:
        draw_quality(report["quality"]).save(options.out / "loras-quality.png")
    print(describe_results(report))
    print(f"\nSaved in {shorten(options.out)}/: loras.json")
    return 0


def measure(part: str, options: argparse.Namespace, progress: Progress) -> Any:
    """One part's figures."""

    def tell(text: str) -> None:
        progress.update(text)
        progress.pulse()

    if part == "patch":
        from benchmarks.loras.patch import measure_patch

        return {"one": measure_patch(options.rank, 1, options.repeats)}
    if part == "latency":
        from benchmarks.loras.latency import measure_latency

        return measure_latency(options.repeats, tell)
    if part == "quality":
        from benchmarks.loras.quality import BOUNDS, measure_quality

        return measure_quality(options.prompts, options.bounds or BOUNDS, tell)
    from benchmarks.loras.trace import measure_trace

    sizes = (options.requests, options.adapters, options.trace_steps)
    return {service: measure_trace(service, *sizes, tell) for service in options.services}


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100000")
    return int(text)
