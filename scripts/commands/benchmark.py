"""`scripts/benchmark`: the project's measurements, a subcommand each."""

import argparse
from types import ModuleType

from benchmarks.controlnets import command as controlnets
from benchmarks.grid import command as grid
from benchmarks.hold import command as hold
from benchmarks.loras import command as loras
from benchmarks.page import command as page
from benchmarks.quality import command as quality
from benchmarks.step import command as step
from benchmarks.trace import command as trace
from launch.options import add_environment_options, make_parser

DESCRIPTION = """\
Measure this project against what else there is, in one run, and write a table, JSON and a chart.
`scripts/benchmark NAME --help` tells a benchmark's options. `python3 -m benchmarks NAME` runs one in the Python at
hand instead of a virtual environment, given PYTHONPATH=python_backends:plugins:build:scripts.
"""

# each has DESCRIPTION, add_options(parser) and work(options), and imports only the standard library up to `work`
BENCHMARKS: dict[str, ModuleType] = {
    "step": step,
    "loras": loras,
    "controlnets": controlnets,
    "grid": grid,
    "trace": trace,
    "quality": quality,
    "hold": hold,
    "page": page,
}


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; `benchmark` names the subcommand."""
    parser = make_parser("scripts/benchmark", DESCRIPTION)
    subparsers = parser.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    for name, module in BENCHMARKS.items():
        subparser = subparsers.add_parser(
            name,
            help=module.__doc__.splitlines()[0] if module.__doc__ else None,
            description=module.DESCRIPTION,
            formatter_class=parser.formatter_class,
            allow_abbrev=False,
        )
        module.add_options(subparser)
        add_environment_options(subparser)
    return parser.parse_args(arguments)


def work(options: argparse.Namespace) -> int:
    """Run the benchmark that the options name."""
    return BENCHMARKS[options.benchmark].work(options)
