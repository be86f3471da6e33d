"""`scripts/check-tensorrt`: plans against PyTorch, through refits, and by the clock."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from commands import build
from launch.options import make_parser
from launch.problems import LaunchError
from launch.progress import Progress

if TYPE_CHECKING:
    import torch

    from swiftdiffusion.engines import Engine
    from swiftdiffusion_build.export.subjects import Checkpoint, Subject
    from swiftdiffusion_build.layout import Layout

TOLERANCE = 5e-3  # of fp16, as a share of an output's largest value

DESCRIPTION = """\
Build plans for the GPU that is here and check each: its outputs against PyTorch's; refits A, B, A, none, bit for bit
against plans that were never refitted to anything else; milliseconds a call, refittable and plain. Prints a table, and
ends with 1 if anything is not as it should be. Where TensorRT or a GPU is missing it says so, and --engine torch runs
the same checks on PyTorch's engine.
"""


@dataclass(frozen=True)
class Row:
    """What was found of one network."""

    network: str
    difference: float
    refits: str
    ms: float
    plain_ms: float | None
    refit_ms: float | None
    good: bool

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        times = ("" if value is None else f"{value:.2f}" for value in (self.ms, self.plain_ms, self.refit_ms))
        return (self.network, f"{self.difference:.1e}", self.refits, *times, "ok" if self.good else "WRONG")


HEADINGS = ("network", "difference", "refits", "ms", "plain ms", "refit ms", "")


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line: that of `scripts/build` without steps."""
    parser = make_parser("scripts/check-tensorrt", DESCRIPTION)
    build.add_checkpoint_options(parser)
    parser.add_argument(
        "--engine", choices=("tensorrt", "torch"), default="tensorrt", help="what is checked (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def work(options: argparse.Namespace) -> int:
    """Build, check, print; 1 if a check failed. Raises `LaunchError` with what is missing."""
    from swiftdiffusion.errors import SwiftDiffusionError

    try:
        rows = list(check(options))
    except SwiftDiffusionError as problem:
        raise LaunchError(build.make_sentence(problem)) from problem
    print_table([HEADINGS, *(row.cells() for row in rows)])
    return 0 if all(row.good for row in rows) else 1


def check(options: argparse.Namespace) -> Iterator[Row]:
    """Check network by network."""
    import torch

    from swiftdiffusion_build.layout import Layout

    checkpoint, _ = build.find_checkpoint(options)
    chosen = build.choose_subjects(options, checkpoint)
    layout = Layout(options.out.absolute())
    if options.engine == "tensorrt":
        build.run_steps(options, ["export", "parse", "engines"])
        build.run_steps(options, ["engines"], replace(layout, refittable=False))
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    for subject in chosen:
        with Progress(f"checking {subject.name}") as progress:
            row = check_subject(subject, checkpoint, options, layout, device)
            progress.conclude("ok" if row.good else "WRONG")
        yield row


def check_subject(
    subject: Subject, checkpoint: Checkpoint, options: argparse.Namespace, layout: Layout, device: torch.device
) -> Row:
    """Check one network at the best size of its first profile."""
    import torch

    from swiftdiffusion.adapters.targets import is_layer
    from swiftdiffusion_build.checking import check_refits, compare, draw_inputs, measure, run
    from swiftdiffusion_build.plans.profiles import adapt

    profiles = adapt(build.choose_profiles(options, checkpoint), subject.name, checkpoint.pixels_per_latent)
    inputs = draw_inputs(subject, profiles[0].best, device)
    make = make_maker(options.engine, layout, device)
    with torch.inference_mode():
        reference = run(subject.load().eval().to(device), inputs)
    engine = make(subject)
    difference = compare(run(engine, inputs), reference)
    refits, plain_ms, refit_ms = "none", None, None
    good = difference <= TOLERANCE
    ms = measure(lambda: engine(*inputs), device)
    if subject.takes_loras:
        findings = check_refits(subject, make, inputs, TOLERANCE)
        wrong = [name for name, value in vars(findings).items() if not value]
        refits = f"not {', '.join(wrong)}" if wrong else "exact"
        good = good and not wrong
        weights = engine.parameters()
        layers = {name: weights[name].clone() for name in weights if is_layer(name, tuple(weights[name].shape))}

        def refit() -> None:
            for name, layer in layers.items():
                weights[name].copy_(layer)
            engine.weights_changed(layers)

        refit_ms = measure(refit, device)
        if options.engine == "tensorrt":
            plain = make_maker(options.engine, replace(layout, refittable=False), device)(subject)
            plain_ms = measure(lambda: plain(*inputs), device)
    return Row(subject.name, difference, refits, ms, plain_ms, refit_ms, good)


def make_maker(kind: str, layout: Layout, device: torch.device) -> Callable[[Subject], Engine]:
    """What makes a fresh engine of a subject."""
    from swiftdiffusion.engines import make_engine
    from swiftdiffusion.placement import Placement

    def make(subject: Subject) -> Engine:
        plan = layout.plan(subject.name) if kind == "tensorrt" else None
        return make_engine(kind, subject.load(), Placement(device, subject.dtype), plan=plan)

    return make


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns as wide as they need."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=sys.stdout)
