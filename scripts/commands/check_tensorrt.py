"""`scripts/check-tensorrt`: plans against PyTorch, through refits, and by the clock."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
Build plans for the GPU that is here and check each, at the best, the least and the greatest size of every profile: its
outputs against PyTorch's. Once a profile: refits A, B, A, none, bit for bit against plans that were never refitted to
anything else, and milliseconds a call, refittable and plain. Prints a table, and ends with 1 if anything is not as it
should be. Where TensorRT or a GPU is missing it says so, and --engine torch runs the same checks on PyTorch's engine.
"""

EXACT = "exact"


@dataclass(frozen=True)
class Row:
    """What was found of one network at one size; what was not looked at is None."""

    network: str
    profile: str
    size: str
    difference: float | None  # None where there was not enough memory
    refits: str | None = None
    ms: float | None = None
    plain_ms: float | None = None
    refit_ms: float | None = None

    @property
    def good(self) -> bool:
        """Whether nothing was wrong."""
        return (self.difference is None or self.difference <= TOLERANCE) and self.refits in (None, EXACT)

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        verdict = "no memory" if self.difference is None else "ok" if self.good else "WRONG"
        difference = "" if self.difference is None else f"{self.difference:.1e}"
        times = ("" if value is None else f"{value:.2f}" for value in (self.ms, self.plain_ms, self.refit_ms))
        return (self.network, self.profile, self.size, difference, self.refits or "", *times, verdict)


HEADINGS = ("network", "profile", "size", "difference", "refits", "ms", "plain ms", "refit ms", "")


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
        if changeable := [subject.name for subject in chosen if subject.takes_loras]:
            only = argparse.Namespace(**{**vars(options), "network": changeable})
            build.run_steps(only, ["engines"], replace(layout, refittable=False))
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    for subject in chosen:
        with Progress(f"checking {subject.name}") as progress:
            rows = []
            for row in check_subject(subject, checkpoint, options, layout, device):
                progress.update(f"{row.profile}, {row.size}")
                rows.append(row)
            progress.conclude("ok" if all(row.good for row in rows) else "WRONG")
        yield from rows


def check_subject(
    subject: Subject, checkpoint: Checkpoint, options: argparse.Namespace, layout: Layout, device: torch.device
) -> Iterator[Row]:
    """Check one network at the sizes of its profiles, the first of each through refits and by the clock too.

    Raises:
        Unavailable: there is not enough memory for any size of a profile.
    """
    import torch

    from swiftdiffusion.errors import Unavailable
    from swiftdiffusion_build.checking import choose_sizes, compare, draw_inputs, run
    from swiftdiffusion_build.plans.profiles import adapt

    profiles = adapt(build.choose_profiles(options, checkpoint), subject, checkpoint.pixels_per_latent)
    make, make_plain = make_maker(options.engine, layout, device), None
    if options.engine == "tensorrt" and subject.takes_loras:
        make_plain = make_maker(options.engine, replace(layout, refittable=False), device)
    network, engine = subject.load().eval().to(device), make(subject)
    sizes, seen = choose_sizes(profiles), set()
    for size, profile in sizes.items():
        row = Row(subject.name, profile.name, str(size), None)
        try:
            inputs = draw_inputs(subject, size, device)
            with torch.inference_mode():
                reference = run(network, inputs)
            row = replace(row, difference=compare(run(engine, inputs), reference))
            if profile not in seen:
                row = examine(row, subject, make, make_plain, engine, inputs)
                seen.add(profile)
        except torch.OutOfMemoryError:
            row = replace(row, difference=None)
            torch.cuda.empty_cache()
        yield row
    if unseen := sorted({profile.name for profile in sizes.values()} - {profile.name for profile in seen}):
        raise Unavailable(f"there is no memory to check {subject.name} at any size of its profile {unseen[0]!r}")


def examine(
    row: Row,
    subject: Subject,
    make: Callable[[Subject], Engine],
    make_plain: Callable[[Subject], Engine] | None,
    engine: Engine,
    inputs: tuple[Any, ...],
) -> Row:
    """Add to a row what is looked at once a profile: refits, and times by the clock."""
    from swiftdiffusion.adapters.targets import is_layer
    from swiftdiffusion_build.checking import check_refits, measure

    device = inputs[0].device
    row = replace(row, ms=measure(lambda: engine(*inputs), device))
    if not subject.takes_loras:
        return row
    findings = check_refits(subject, make, inputs, TOLERANCE)
    wrong = [name for name, value in vars(findings).items() if not value]
    weights = engine.parameters()
    layers = {name: weights[name].clone() for name in weights if is_layer(name, tuple(weights[name].shape))}

    def refit() -> None:
        for name, layer in layers.items():
            weights[name].copy_(layer)
        engine.weights_changed(layers)

    row = replace(row, refits=f"not {', '.join(wrong)}" if wrong else EXACT, refit_ms=measure(refit, device))
    if make_plain:
        plain = make_plain(subject)
        row = replace(row, plain_ms=measure(lambda: plain(*inputs), device))
    return row


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
