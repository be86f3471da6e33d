"""Options of every benchmark of servers; the standard library only."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.serving.systems import LABELS
from launch.paths import OUTPUTS


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Add what is served, where files are, and whether diffusers at its best compiles."""
    parser.add_argument(
        "--out", type=Path, default=OUTPUTS / "benchmark", metavar="FOLDER", help="default: outputs/benchmark"
    )
    parser.add_argument("--checkpoint", choices=("sdxl", "shapes"), help="default: sdxl on a GPU, shapes without one")
    parser.add_argument(
        "--checkpoint-folder",
        type=Path,
        metavar="FOLDER",
        help="where it is written if it is not there (default: outputs/benchmark/<checkpoint>)",
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="`best` without torch.compile, which takes minutes, as without a GPU"
    )
    parser.add_argument("--compile", action="store_true", help="`best` with torch.compile also without a GPU")


def add_serving_options(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark of servers takes."""
    add_checkpoint_options(parser)
    parser.add_argument(
        "--systems", nargs="+", choices=LABELS, default=list(LABELS), metavar="SYSTEM", help="default: ours stock best"
    )
    parser.add_argument(
        "--held",
        action="store_true",
        help="diffusers' servers are those that `scripts/benchmark hold` keeps, with the same --out",
    )
    parser.add_argument("--engine", default="auto", help="ours, as the models' parameter (default: auto)")
    parser.add_argument(
        "--gpus", type=_read_count, metavar="N", help="ours, how many GPUs it may use (default: all that there are)"
    )
    places = parser.add_mutually_exclusive_group()
    places.add_argument(
        "--placement", type=Path, metavar="FILE", help="ours, as scripts/build has it; rows are told apart by its name"
    )
    places.add_argument(
        "--split-guidance",
        action=argparse.BooleanOptionalAction,
        help="ours, placed as scripts/build placement has it with this option; rows are told apart by it",
    )
    parser.add_argument(
        "--lane",
        type=_read_parameter,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="ours, parameters of the lane, such as second_gpu=cuda:1; rows are told apart by them",
    )
    parser.add_argument(
        "--output-format",
        choices=("png", "jpeg", "webp", "raw"),
        default="jpeg",
        help="of the pictures; JPEGs of ours the GPU encodes where it can, as its rows say (default: jpeg)",
    )
    parser.add_argument("--resume", action="store_true", help="keep the rows that the JSON has, and add to them")


def _read_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of GPUs, from 1")
    return int(text)


def _read_parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
