"""`scripts/build`: from a checkpoint to a model repository that runs on TensorRT."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from launch.options import add_environment_options, make_parser
from launch.paths import CHECKOUT, MODEL_REPOSITORY, OUTPUTS, shorten
from launch.problems import LaunchError
from launch.progress import Progress

if TYPE_CHECKING:
    from swiftdiffusion.engines.tensorrt.records import Profile
    from swiftdiffusion_build.export.subjects import Checkpoint, Subject
    from swiftdiffusion_build.layout import Layout

WEIGHTS = CHECKOUT / "build" / "shapes" / "weights"
STEPS = ("export", "parse", "engines", "repository")
TENSORRT = ("auto", "tensorrt", "tensorrt_rtx")

DESCRIPTION = """\
Make a model repository that runs a checkpoint on TensorRT, in steps, each of which can be run alone:
  export      networks to ONNX files, in fp16 (a VAE that would overflow in fp32)
  parse       check that TensorRT understands them, every operator and weight; needs no GPU
  engines     build plans for the GPU that is here
  repository  write the models' configurations
What is up to date is not made again.
"""

EPILOG = """\
  scripts/build                                     all steps, for the checkpoint of the repository
  scripts/build export parse                        what needs no GPU
  scripts/build --pipeline /models/sdxl --controlnet /models/depth --adapters /models/loras --out /models/built
  scripts/build engines --profile portrait=2x1344x768 --profile any=1-2-8x512-1536x512-1536
  scripts/serve --model-repository outputs/build/model_repository
"""


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("scripts/build", DESCRIPTION, EPILOG)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} (default: all)")
    add_checkpoint_options(parser)
    options = parser.parse_args(arguments)
    if unknown := [step for step in options.steps if step not in STEPS]:
        parser.error(f"no step is called {unknown[0]!r}; there are: {', '.join(STEPS)}")
    return options


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which checkpoint is built, how, and to where."""
    parser.add_argument(
        "--pipeline",
        type=Path,
        metavar="FOLDER",
        help="diffusers folder of the SDXL family (default: that of the repository, with its ControlNets and LoRAs)",
    )
    parser.add_argument(
        "--controlnet",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="diffusers folder of a ControlNet, served under its folder's name; may be given several times",
    )
    parser.add_argument("--adapters", type=Path, metavar="FOLDER", help="folder of LoRAs, for the step repository")
    parser.add_argument(
        "--out", type=Path, default=OUTPUTS / "build", metavar="FOLDER", help="where all goes (default: outputs/build)"
    )
    parser.add_argument(
        "--profile",
        action="append",
        metavar="NAME=BATCHxHEIGHTxWIDTH",
        help="sizes in pixels that plans take, each a number, LOW-HIGH or LOW-BEST-HIGH; may be given several times "
        "(default: the pipeline's own size with guidance, and 1-2-8 pictures of 0.5 to 1.5 times that)",
    )
    parser.add_argument(
        "--network", action="append", metavar="NAME", help="only this network; may be given several times"
    )
    parser.add_argument("--tensorrt", choices=TENSORRT, default="auto", help="which one (default: what is installed)")
    add_environment_options(parser)


def work(options: argparse.Namespace) -> int:
    """Run the steps in their order; raises `LaunchError` with what is missing, and how to get it."""
    from swiftdiffusion.errors import SwiftDiffusionError

    steps = [step for step in STEPS if not options.steps or step in options.steps]
    try:
        run_steps(options, steps)
    except SwiftDiffusionError as problem:
        raise LaunchError(make_sentence(problem)) from problem
    return 0


def make_sentence(problem: Exception) -> str:
    """An error's text with a full stop."""
    return f"{str(problem).rstrip('.')}."


def run_steps(options: argparse.Namespace, steps: list[str], layout: Layout | None = None) -> None:
    """Run the named steps, into the folder of the options unless a layout is given."""
    from swiftdiffusion.engines.tensorrt.library import load_tensorrt
    from swiftdiffusion_build.export.step import export_networks
    from swiftdiffusion_build.layout import Layout
    from swiftdiffusion_build.plans.step import build_plans, find_gpu, parse_networks
    from swiftdiffusion_build.repository import write_repository

    checkpoint, adapters = find_checkpoint(options)
    chosen = choose_subjects(options, checkpoint)
    profiles = choose_profiles(options, checkpoint)
    layout = layout or Layout(options.out.absolute())
    # before the first step: what a later one lacks is not found out after minutes
    library = load_tensorrt(options.tensorrt) if {"parse", "engines"} & {*steps} else None
    if library and "engines" in steps:
        find_gpu(library)
    if "export" in steps:
        export_networks(chosen, layout, Progress)
    if library and "parse" in steps:
        parse_networks(chosen, layout, library, Progress)
    if library and "engines" in steps:
        build_plans(chosen, layout, library, profiles, checkpoint.pixels_per_latent, Progress)
    if "repository" in steps:
        write_repository(MODEL_REPOSITORY, checkpoint, adapters, profiles, layout, Progress)
        print(f"scripts/serve --model-repository {shorten(layout.model_repository)}")


def find_checkpoint(options: argparse.Namespace) -> tuple[Checkpoint, Path]:
    """The checkpoint and the folder of LoRAs that are meant; raises `LaunchError` for a folder that is none."""
    from transformers.utils import logging

    from swiftdiffusion_build.export.subjects import Checkpoint

    logging.disable_progress_bar()
    pipeline: Path = options.pipeline or WEIGHTS / "pipeline"
    own = sorted((WEIGHTS / "controlnets").iterdir()) if options.pipeline is None else []
    controlnets: list[Path] = options.controlnet or own
    adapters: Path = options.adapters or (WEIGHTS / "loras" if options.pipeline is None else pipeline / "loras")
    if not (pipeline / "model_index.json").is_file():
        raise LaunchError(f"{pipeline} is no diffusers pipeline: name one that has a model_index.json with --pipeline.")
    for folder in controlnets:
        if not (folder / "config.json").is_file():
            raise LaunchError(
                f"{folder} is no diffusers ControlNet: name one that has a config.json with --controlnet."
            )
    return Checkpoint(pipeline, tuple(folder.resolve() for folder in controlnets)), adapters


def choose_subjects(options: argparse.Namespace, checkpoint: Checkpoint) -> list[Subject]:
    """The networks that are meant; raises `LaunchError` for a name that is none."""
    subjects = checkpoint.subjects()
    if unknown := [name for name in options.network or () if name not in subjects]:
        raise LaunchError(f"--network is {unknown[0]!r}; there are: {', '.join(subjects)}.")
    return [subject for name, subject in subjects.items() if not options.network or name in options.network]


def choose_profiles(options: argparse.Namespace, checkpoint: Checkpoint) -> tuple[Profile, ...]:
    """The profiles of the command line, or those that suit the checkpoint."""
    from swiftdiffusion_build.plans.profiles import default_profiles, parse_profile

    if options.profile:
        return tuple(parse_profile(text) for text in options.profile)
    return default_profiles(checkpoint.native_pixels)
