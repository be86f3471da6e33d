"""LoRAs: the patch, what one adds to a request, what its lateness costs the picture, and a production-like trace."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.paths import OUTPUTS, shorten
from launch.problems import LaunchError
from launch.progress import Progress

if TYPE_CHECKING:
    from benchmarks.loras.rows import Rows

DESCRIPTION = """\
Measure LoRAs, in parts. `patch`: all 560 attention projections of SDXL at rank 64, patched and restored by one launch
each, against separate products (a GPU). `latency`: a request of 30 steps with a LoRA that is in no cache, against one
without; and the steps while LoRAs load all the time, against undisturbed ones. With a GPU that is SDXL at 1024 x 1024
with random weights and 186 MB a LoRA, without one `shapes` and 44 MB, to try the code out. `trace`: requests drawn as
production's over 60 LoRAs with room for 10, on `shapes`. `quality`: what the judge of `shapes` and SSIM say of pictures
whose LoRA came at each step. `exact`: sets of LoRAs one after the other against a fresh server, and two against
diffusers. `failures`: broken files and stores. Writes loras.json, anew after each row, and loras-quality.png.
"""
PARTS = ("patch", "latency", "trace", "quality", "exact", "failures")
ON_GPU = ("patch",)
STEPS = 30
HOST_TIMES = 500


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument(
        "--out", type=Path, default=OUTPUTS / "benchmark", metavar="FOLDER", help="default: outputs/benchmark"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, help="default: all on a GPU, without one those that need none"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep what loras.json has already, and measure the rows that it lacks"
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
    from benchmarks.loras.quality_table import BOUNDS
    from benchmarks.loras.rows import Rows, arrange, is_same
    from benchmarks.runs import GrowingReport

    has_gpu = torch.cuda.is_available()
    parts = options.parts or [part for part in PARTS if has_gpu or part not in ON_GPU]
    if not has_gpu and (missing := [part for part in parts if part in ON_GPU]):
        allowed = ", ".join(part for part in PARTS if part not in ON_GPU)
        raise LaunchError(f"--parts has {missing[0]!r}, which takes a GPU; allowed here: {allowed}")
    options.bounds = list(options.bounds or BOUNDS)
    if not all(0 <= bound <= STEPS for bound in options.bounds):
        raise LaunchError(f"--bounds is {options.bounds}; allowed: steps from 0 to {STEPS}")
    options.out.mkdir(parents=True, exist_ok=True)
    report = GrowingReport(
        "loras",
        sys.argv[1:],
        options.out / "loras.json",
        is_same,
        lambda found: judge_bars(arrange(found)),
        options.resume,
        settings=describe_settings(options),
    )
    rows = Rows(report)
    for part in parts:
        with Progress(f"measuring {part}") as progress:
            measure(part, options, rows, progress)
    if quality := rows.parts.get("quality"):
        draw_quality(quality).save(options.out / "loras-quality.png")
    print(describe_results(rows.parts, report.bars))
    print(f"\nSaved in {shorten(options.out)}/: loras.json")
    return 0


def describe_settings(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each part's figures depend on."""
    return {
        "patch": {"rank": options.rank, "repeats": options.repeats},
        "latency": {"steps": STEPS, "repeats": options.repeats},
        "trace": {"requests": options.requests, "adapters": options.adapters, "steps": options.trace_steps},
        "quality": {"prompts": options.prompts, "steps": STEPS, "first_bound": options.bounds[0]},
    }


def measure(part: str, options: argparse.Namespace, rows: Rows, progress: Progress) -> None:
    """Measure the rows of one part that are not there yet."""

    def tell(text: str) -> None:
        progress.update(text)
        progress.pulse()

    MEASURERS[part](options, rows, tell)


def _patch(options: argparse.Namespace, rows: Rows, tell: Callable[[str], None]) -> None:
    from benchmarks.loras.patch import measure_patch

    rows.measure("patch", "one", lambda: measure_patch(options.rank, 1, options.repeats))


def _latency(options: argparse.Namespace, rows: Rows, tell: Callable[[str], None]) -> None:
    from benchmarks.loras.latency import measure_host, measure_latency, measure_steps
    from benchmarks.loras.unet_lane import open_lane
    from swiftdiffusion.interpreter import shorten_pauses

    if all(rows.has("latency", name) for name in ("request", "steps", "host")):
        return
    tell("writing LoRA files and building the UNet")
    with open_lane(STEPS) as lane:
        shorten_pauses()  # as a lane's process does when it has loaded
        rows.measure("latency", "request", lambda: measure_latency(lane, options.repeats, tell))
        rows.measure("latency", "steps", lambda: measure_steps(lane, options.repeats, tell))
        rows.measure("latency", "host", lambda: measure_host(lane, HOST_TIMES, tell))


def _trace(options: argparse.Namespace, rows: Rows, tell: Callable[[str], None]) -> None:
    from benchmarks.loras.trace import measure_trace
    from swiftdiffusion.interpreter import shorten_pauses

    shorten_pauses()
    for service in options.services:
        sizes = (options.requests, options.adapters, options.trace_steps)
        rows.measure("trace", service, lambda: measure_trace(service, *sizes, tell))  # noqa: B023  # called at once


def _quality(options: argparse.Namespace, rows: Rows, tell: Callable[[str], None]) -> None:
    from benchmarks.loras.quality import measure_quality

    measure_quality(rows, options.prompts, options.bounds, STEPS, tell)


def _exact(options: argparse.Namespace, rows: Rows, tell: Callable[[str], None]) -> None:
    from benchmarks.loras.exactness import measure_against_diffusers, measure_history

    tell("one set after the other")
    rows.measure("exact", "history", measure_history)
    tell("two LoRAs against diffusers")
    rows.measure("exact", "set_adapters", measure_against_diffusers)


def _failures(options: argparse.Namespace, rows: Rows, tell: Callable[[str], None]) -> None:
    from benchmarks.loras.failures import measure_failures

    measure_failures(rows, tell)


MEASURERS: dict[str, Callable[[argparse.Namespace, Rows, Callable[[str], None]], None]] = {
    "patch": _patch,
    "latency": _latency,
    "trace": _trace,
    "quality": _quality,
    "exact": _exact,
    "failures": _failures,
}


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100000")
    return int(text)
