"""`scripts/test`: lint, format, types and tests, the same here and in CI."""

import argparse
import os
import subprocess
import sys

from launch.interpreter import describe_interpreter
from launch.options import add_environment_options, make_parser, parse_and_pass_on
from launch.paths import CHECKOUT
from launch.ports import choose_free_ports
from launch.preflight import check_serving

DESCRIPTION = """\
Check the code (ruff's linter and formatter, mypy), then run the tests with pytest. The first time a virtual
environment is made and the packages of requirements.lock are installed.
"""

EPILOG = """\
Options not listed here, and all after --, are pytest's own and passed on:
  scripts/test tests/unit -k scheduler
  scripts/test --only-tests -x --lf
"""

HOST = "127.0.0.1"

# Each names a module of the environment.
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
)


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; unknown options end up in `further_options`."""
    parser = make_parser("scripts/test", DESCRIPTION, EPILOG)
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--only-checks", action="store_true", help="check the code and run no test")
    part.add_argument("--only-tests", action="store_true", help="run the tests without checking the code")
    add_environment_options(parser)
    return parse_and_pass_on(parser, arguments)


def work(options: argparse.Namespace) -> int:
    """Run the checks, then become pytest; give the exit code of the first check that fails."""
    variables = make_variables()
    if not options.only_tests:
        for check in CHECKS:
            print("$", *check, file=sys.stderr, flush=True)
            code = subprocess.run([sys.executable, "-m", *check], cwd=CHECKOUT, env=variables).returncode
            if code:
                return code
    if options.only_checks:
        return 0
    check_serving(describe_interpreter(sys.executable), choose_free_ports(HOST), HOST)
    os.chdir(CHECKOUT)
    os.execve(sys.executable, [sys.executable, "-m", "pytest", *options.further_options], variables)


def make_variables() -> dict[str, str]:
    """Give the variables under which the tests run; those that are set already are kept."""
    processors = str(len(os.sched_getaffinity(0)))
    return {
        "OMP_NUM_THREADS": processors,
        "OMP_WAIT_POLICY": "PASSIVE",  # a server's models share the processors: waiting threads must not spin
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",  # a test that would download something fails at once
        "PYTHONUNBUFFERED": "1",
        **os.environ,
    }
