"""Pictures: what each shortcut costs them, against stock diffusers in fp32, on the small checkpoint."""

from __future__ import annotations

import argparse
import sys
from itertools import groupby
from pathlib import Path

from launch.paths import OUTPUTS, shorten
from launch.problems import LaunchError
from launch.progress import Progress

DESCRIPTION = """\
Draw unseen scenes of `shapes` by stock diffusers in fp32 and with one shortcut after the other: LoRAs that come at a
later step, fp16, fused kernels, ControlNets over CUDA IPC, guidance split over two GPUs. For each, on pictures without
add-ons, with a LoRA and with a ControlNet: the share that the judge of `shapes` finds right (with a LoRA: that shows
its style), SSIM, a distance in the features of the VAE's encoder, and the largest difference of a pixel. All but the
late LoRAs are drawn through tritonserver. Without a GPU only what needs none. quality.json is rewritten after each row;
quality.png, drawn at the end, shows the first pictures of all that were drawn this time.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument(
        "--out", type=Path, default=OUTPUTS / "benchmark", metavar="FOLDER", help="default: outputs/benchmark"
    )
    parser.add_argument("--pictures", type=int, metavar="N", help="of each kind (default: 40, without a GPU 4)")
    parser.add_argument("--steps", type=int, metavar="N", help="Euler steps (default: 30, without a GPU 10)")
    parser.add_argument(
        "--late",
        type=int,
        nargs="*",
        metavar="STEP",
        help="at which LoRAs come (default: 0 2 5 10 15; without a GPU 0 5)",
    )
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="default: all that this machine can draw")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the JSON has, and add to them")


def work(options: argparse.Namespace) -> int:
    """Measure all variants; 1 if one failed, else 0."""
    # Only now, in the environment: what follows is not of the standard library.
    import torch

    from benchmarks.quality.distance import FeatureDistance
    from benchmarks.quality.drawing import Drawn, draw_late, draw_reference, draw_variants
    from benchmarks.quality.results import REFERENCE, compare, format_rows, is_same, judge
    from benchmarks.quality.sheet import draw_sheet
    from benchmarks.quality.subjects import SETS, draw_subjects
    from benchmarks.quality.variants import list_variants, name_late
    from benchmarks.runs import GrowingReport
    from shapes.checkpoint import pipeline_folder

    gpus = torch.cuda.device_count()
    steps = options.steps or (30 if gpus else 10)
    pictures = options.pictures or (40 if gpus else 4)
    late = ([0, 2, 5, 10, 15] if gpus else [0, 5]) if options.late is None else options.late
    if not all(0 <= step <= steps for step in late):
        raise LaunchError(f"--late is {late}; allowed: steps from 0 to {steps}")
    variants = list_variants(gpus)
    names = [*map(name_late, late), *(variant.name for variant in variants)]
    if unknown := [name for name in options.variants or () if name not in names]:
        raise LaunchError(f"--variants has {unknown[0]!r}; allowed here: {', '.join(names)}")
    report = GrowingReport(
        "quality", sys.argv[1:], options.out / "quality.json", is_same, judge, options.resume,
        checkpoint="shapes", note="the small checkpoint", pictures=pictures, steps=steps,
    )  # fmt: skip
    subjects = {kind: draw_subjects(kind, pictures, steps) for kind in SETS}
    distance = FeatureDistance(pipeline_folder())
    reference: Drawn = {}
    shown: dict[str, Drawn] = {}

    def add(name: str, label: str, drawn: Drawn | str) -> None:
        row = {"variant": name, "label": label}
        if isinstance(drawn, str):
            report.add({**row, "failed": drawn})
        else:
            shown[label] = drawn
            sets = {kind: compare(subjects[kind], some, reference[kind], distance) for kind, some in drawn.items()}
            report.add({**row, "sets": sets})

    with Progress("drawing with stock diffusers") as progress:
        reference = draw_reference(subjects, "fp32", progress)
        add(REFERENCE, "stock diffusers, fp32", reference)
        if gpus:
            add("stock_fp16", "stock diffusers, fp16, the same noise", draw_reference(subjects, "fp16", progress))
    wanted = [n for n in options.variants or names if not report.has({"variant": n})]
    with Progress("drawing with late LoRAs"):
        for step in late:
            if name_late(step) in wanted:
                label = f"{'fused, fp16' if gpus else 'fp32'}, LoRAs from step {step} on"
                add(name_late(step), label, {"lora": draw_late(subjects["lora"], step, steps)})
    served = [variant for variant in variants if variant.name in wanted]
    for _, group in groupby(served, key=lambda variant: (variant.tuning, variant.layout)):
        ways = list(group)
        with Progress(f"drawing: {ways[0].label}") as progress:
            for variant, drawn in draw_variants(ways, subjects, progress):
                add(variant.name, variant.label, drawn)
    print(format_rows(report.rows, report.bars))
    draw_sheet(shown).save(options.out / "quality.png")
    print(f"\nSaved in {shorten(options.out)}/: quality.json, quality.png")
    return int(any("failed" in row for row in report.rows))
