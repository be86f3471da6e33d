"""Options that the scripts share."""

import argparse
from pathlib import Path

from launch.environment import FOLDER_VARIABLE


def add_environment_options(parser: argparse.ArgumentParser) -> None:
    """Add what chooses the virtual environment."""
    group = parser.add_argument_group("environment")
    group.add_argument(
        "--venv",
        type=Path,
        metavar="FOLDER",
        help=f"virtual environment to make or use (default: .venv in the checkout, or ${FOLDER_VARIABLE})",
    )
    group.add_argument(
        "--python",
        metavar="PYTHON",
        help="interpreter to make it with: 3.10, 3.11 or 3.12 (default: the one here)",
    )


def split_further_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split at the first `--`: what is before it is ours to read, what is after it is passed on."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]
