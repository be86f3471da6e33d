"""`scripts/perf_analyzer`: Triton's own load generator, with the libraries that its wheel lacks."""

import argparse
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from launch.options import add_environment_options, make_parser, parse_and_pass_on
from launch.problems import LaunchError

DESCRIPTION = """\
Run the perf_analyzer of the tritonclient package, or the one on PATH as in NVIDIA's container. Options not listed here,
and all after --, are its own: `scripts/perf_analyzer -- --help` lists them.
"""

# what the executable asks for, and what the wheel of nvidia-pytriton calls it
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; perf_analyzer's own options end up in `further_options`."""
    parser = make_parser("scripts/perf_analyzer", DESCRIPTION)
    add_environment_options(parser)
    return parse_and_pass_on(parser, arguments)


def work(options: argparse.Namespace) -> int:
    """Become perf_analyzer; raises `LaunchError` where there is none."""
    executable, variables = find_perf_analyzer()
    os.execve(executable, [executable, *options.further_options], variables)


def find_perf_analyzer() -> tuple[str, dict[str, str]]:
    """The executable and the variables to run it with; raises `LaunchError` where there is none."""
    own = Path(sys.prefix) / "bin" / "perf_analyzer"
    if own.exists():
        libraries = link_libraries(Path(sys.prefix) / "lib" / "perf_analyzer")
        return str(own), {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    on_path = shutil.which("perf_analyzer")
    if on_path is None:
        raise LaunchError(f"Neither {sys.prefix} nor PATH has a perf_analyzer: install the package tritonclient.")
    return on_path, dict(os.environ)


def link_libraries(folder: Path) -> Path:
    """Give the wheel's libraries, in `folder`, the names that perf_analyzer asks for."""
    package = find_spec("pytriton")
    if package is None or package.origin is None:
        raise LaunchError(f"{sys.prefix} holds no nvidia-pytriton, whose libraries perf_analyzer needs.")
    libraries = Path(package.origin).parents[1] / "nvidia_pytriton.libs"
    folder.mkdir(exist_ok=True)
    for name, pattern in LIBRARIES.items():
        link = folder / name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(next(libraries.glob(pattern)))
    return folder
