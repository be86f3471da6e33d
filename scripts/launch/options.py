"""Options that the scripts share."""

import argparse
from pathlib import Path

from launch.environment import FOLDER_VARIABLE


def make_parser(prog: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser whose help keeps the lines of its texts, and that takes no shortened options."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


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


def parse_and_pass_on(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Read our options; those that we do not know, and all after `--`, end up in `further_options`."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    options, unknown = parser.parse_known_args(arguments[:at])
    options.further_options = (*unknown, *arguments[at + 1 :])
    return options
