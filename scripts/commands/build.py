"""`scripts/build`: from a checkpoint to a model repository for the GPUs of a machine."""

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
    from swiftdiffusion_build.placement.server_placement import ServerPlacement

WEIGHTS = CHECKOUT / "build" / "shapes" / "weights"
STEPS = ("placement", "export", "parse", "engines", "repository")
BY_DEFAULT = {"tensorrt": ("export", "parse", "engines", "repository")}  # by engine; others need no plans
TENSORRT = ("auto", "tensorrt", "tensorrt_rtx")
ENGINES = ("tensorrt", "cuda_graph", "torch", "auto")
GPUS_MOST = 64
MEMORY_MOST_GB = 10_000.0

DESCRIPTION = """\
Make a model repository that serves a checkpoint, on TensorRT unless --engine names another, in steps, each of which can
be run alone:
  placement   suggest which GPU each model runs on, from the GPUs here; only where it is named
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
  scripts/build placement repository --engine cuda_graph --placement placement.toml
  scripts/build placement --gpus 4 --gpu-memory-gb 24
  scripts/build --profiles profiles.toml            plans for the sizes that a file names
  scripts/serve --model-repository outputs/build/model_repository
"""


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("scripts/build", DESCRIPTION, EPILOG)
    parser.add_argument(
        "steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} (default: all that the engine needs)"
    )
    add_checkpoint_options(parser)
    add_serving_options(parser)
    options = parser.parse_args(arguments)
    if unknown := [step for step in options.steps if step not in STEPS]:
        parser.error(f"no step is called {unknown[0]!r}; there are: {', '.join(STEPS)}")
    if options.gpus is not None and not 0 <= options.gpus <= GPUS_MOST:
        parser.error(f"--gpus is {options.gpus}; allowed: 0 to {GPUS_MOST}")
    if options.gpu_memory_gb is not None and not 0 < options.gpu_memory_gb <= MEMORY_MOST_GB:
        parser.error(f"--gpu-memory-gb is {options.gpu_memory_gb}; allowed: above 0, up to {MEMORY_MOST_GB:.0f}")
    if bool(options.gpus) != (options.gpu_memory_gb is not None):
        parser.error("--gpus and --gpu-memory-gb belong together: they describe the GPUs of another machine")
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
        "--profiles",
        type=Path,
        metavar="FILE",
        help="the sizes that plans take, as TOML: see the README (default: the pipeline's own size with guidance, and "
        "1 to 8 samples of 0.5 to 1.5 times that)",
    )
    parser.add_argument(
        "--network", action="append", metavar="NAME", help="only this network; may be given several times"
    )
    parser.add_argument("--tensorrt", choices=TENSORRT, default="auto", help="which one (default: what is installed)")
    add_environment_options(parser)


def add_serving_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how the checkpoint is served, and by which machine."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="tensorrt",
        help="what runs the networks (default: %(default)s; the others need no step but repository)",
    )
    parser.add_argument(
        "--placement",
        type=Path,
        metavar="FILE",
        help="where each model runs: the step placement writes this file, if it is new; the step repository follows it",
    )
    parser.add_argument(
        "--split-guidance",
        action=argparse.BooleanOptionalAction,
        help="for the step placement: a lane of two GPUs that share the work of guidance, and every "
        "ControlNet on both; or a lane of one and ControlNets on the others (default: the former where there are two "
        "GPUs and all fits, else the latter)",
    )
    parser.add_argument(
        "--resident-controlnets",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="for the step placement: a lane runs the ControlNets on its own GPUs itself; or they are models with "
        "processes of their own (default: the former)",
    )
    parser.add_argument("--gpus", type=int, metavar="N", help="how many GPUs the server has (default: those here)")
    parser.add_argument("--gpu-memory-gb", type=float, metavar="GB", help="memory of each of the --gpus")


def work(options: argparse.Namespace) -> int:
    """Run the steps in their order; raises `LaunchError` with what is missing, and how to get it."""
    from swiftdiffusion.errors import SwiftDiffusionError

    wanted = options.steps or BY_DEFAULT.get(options.engine, ("repository",))
    steps = [step for step in STEPS if step in wanted]
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
    placement = choose_placement(options, checkpoint, steps) if {"placement", "repository"} & {*steps} else None
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
        write_repository(
            MODEL_REPOSITORY,
            checkpoint,
            adapters,
            profiles,
            layout,
            Progress,
            engine=options.engine,
            placement=placement,
        )
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
    """The profiles of the file that is named, or those that suit the checkpoint."""
    from swiftdiffusion_build.plans.profile_file import read_profiles
    from swiftdiffusion_build.plans.profiles import default_profiles

    return read_profiles(options.profiles) if options.profiles else default_profiles(checkpoint.native_pixels)


def choose_placement(options: argparse.Namespace, checkpoint: Checkpoint, steps: list[str]) -> ServerPlacement | None:
    """The placement that is suggested (printed, and kept in its file) or read, if any; what cannot work is refused."""
    from swiftdiffusion_build.placement.checking import check_placement
    from swiftdiffusion_build.placement.file import format_placement, read_placement
    from swiftdiffusion_build.placement.footprints import read_footprints
    from swiftdiffusion_build.placement.gpus import describe_gpus, find_gpus
    from swiftdiffusion_build.placement.planner import suggest_placement

    file: Path | None = options.placement
    suggests = "placement" in steps
    if suggests and file and file.exists():
        raise LaunchError(f"{file} is there already: name another, remove it, or leave out the step placement.")
    if suggests and file and not file.absolute().parent.is_dir():
        raise LaunchError(f"{file} cannot be written: there is no folder {file.parent}.")
    if not suggests and not file:
        return None
    gpus = find_gpus() if options.gpus is None else describe_gpus(options.gpus, options.gpu_memory_gb or 0)
    footprints = read_footprints(checkpoint)
    text = ""
    if file and not suggests:
        placement = read_placement(file)
    else:
        suggestion = suggest_placement(footprints, gpus, options.split_guidance, options.resident_controlnets)
        placement, text = suggestion.placement, format_placement(suggestion.placement, suggestion.reasons)
    if "repository" in steps:
        check_placement(placement, footprints, gpus, options.engine)
    print(text, end="")
    if file and suggests:
        file.write_text(text)
    return placement
