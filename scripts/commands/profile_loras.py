"""`scripts/profile-loras`: how late each LoRA may come, kept beside it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from launch.options import add_environment_options, make_parser
from launch.paths import OUTPUTS, shorten
from launch.problems import LaunchError
from launch.progress import Progress

DESCRIPTION = """\
For each LoRA named, draw prompts with it in the UNet from the start and from later steps on, and measure how alike the
pictures are (SSIM), and how alike their latents with and without it are after each step. The last step that keeps
pictures and threshold together becomes the bound of requests that name none: it is written to <name>.profile.json
beside the LoRA, where a lane finds it. A plot goes to --out.
"""


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("scripts/profile-loras", DESCRIPTION)
    parser.add_argument("loras", nargs="+", metavar="NAME", help="LoRAs of the folder --adapters, without the ending")
    parser.add_argument("--adapters", type=Path, metavar="FOLDER", help="default: the LoRAs of `shapes`")
    parser.add_argument("--pipeline", type=Path, metavar="FOLDER", help="default: the pipeline of `shapes`")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="one prompt a line (default: 8 scenes of `shapes`)"
    )
    parser.add_argument("--threshold", type=float, default=0.9, help="least mean SSIM (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="of a picture (default: %(default)s)")
    parser.add_argument("--guidance-scale", type=float, default=3.0, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture's noise (default: %(default)s)")
    parser.add_argument(
        "--bounds", type=int, default=9, metavar="N", help="how many to try, from 0 to all steps (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=OUTPUTS / "profiles", metavar="FOLDER", help="for plots (default: outputs/profiles)"
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing beside the LoRAs")
    add_environment_options(parser)
    options = parser.parse_args(arguments)
    if not 0 < options.threshold <= 1:
        parser.error(f"--threshold is {options.threshold}; allowed: above 0, up to 1")
    if not 1 <= options.steps <= 1000 or not 2 <= options.bounds <= options.steps + 1:
        parser.error(f"--steps is {options.steps} and --bounds {options.bounds}; allowed: 2 to steps + 1 bounds")
    return options


def work(options: argparse.Namespace) -> int:
    """Profile each LoRA."""
    # Only now, in the environment: what follows is not of the standard library.
    from benchmarks.loras.profiling import profile_lora
    from benchmarks.loras.studio import Studio, spread
    from shapes.captions import full_captions
    from shapes.checkpoint import lora_file, pipeline_folder
    from shapes.evaluate import unseen_scenes
    from swiftdiffusion.adapters.profile import PROFILE_SUFFIX
    from swiftdiffusion.errors import SwiftDiffusionError

    adapters = options.adapters or lora_file("night").parent
    prompts = read_prompts(options.prompts) if options.prompts else full_captions(unseen_scenes(8, options.seed))
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        studio = Studio(
            options.pipeline or pipeline_folder(), adapters, options.steps, options.guidance_scale, options.size
        )
        for name in options.loras:
            with Progress(f"profiling {name}"):
                lateness = profile_lora(studio, name, prompts, spread(options.steps, options.bounds), options.seed)
            profile = lateness.to_profile(options.threshold)
            plot = options.out / f"{name}.png"
            lateness.draw(options.threshold).save(plot)
            if not options.dry_run:
                (adapters / (name + PROFILE_SUFFIX)).write_text(profile.to_json())
            print(f"{name}: bound {profile.bound} of {profile.steps}; {json.dumps(profile.similarities)}")
            print(shorten(plot))
        studio.close()
    except SwiftDiffusionError as error:
        raise LaunchError(str(error)) from None
    return 0


def read_prompts(path: Path) -> list[str]:
    """The lines that are not empty; raises `LaunchError` if there are none."""
    try:
        prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"--prompts names {path}, which cannot be read: {error}") from None
    if not prompts:
        raise LaunchError(f"--prompts names {path}, which holds no prompts")
    return prompts
