"""The page of results: every JSON file in a folder as tables, beside the published figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.paths import CHECKOUT, shorten
from launch.problems import LaunchError

DESCRIPTION = """\
Write README.md into a folder of results, from the JSON files that the other benchmarks wrote there, beside the figures
that were published for Katz; nothing on it is typed by hand. What is missing is said, with the command that measures
it.
"""
PAGE = "README.md"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the page's options."""
    parser.add_argument(
        "--results", type=Path, default=CHECKOUT / "docs" / "results", metavar="FOLDER", help="default: docs/results"
    )
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if the page is not up to date")


def work(options: argparse.Namespace) -> int:
    """Write the page, or compare it."""
    # Only now, in the environment: what follows is not of the standard library.
    from benchmarks.page.sections import SECTIONS, format_promises

    folder: Path = options.results
    if not folder.is_dir():
        raise LaunchError(f"--results is {str(folder)!r}, which is no folder: make it, or name another.")
    promises = format_promises(folder)
    intro = (
        "Written by `scripts/benchmark page` from the JSON files beside it: mend those, or the benchmarks, not this."
    )
    parts = ["# Results", intro, "## Promises", promises, *(section.write(folder) for section in SECTIONS)]
    text = "\n\n".join(parts) + "\n"
    page = folder / PAGE
    if options.check:
        if not page.exists() or page.read_text() != text:
            raise LaunchError(f"{shorten(page)} is not what its JSON files give: run `scripts/benchmark page`.")
        return 0
    page.write_text(text)
    print(f"Saved {shorten(page)}")
    return 0
