"""`python3 -m benchmarks NAME`: as `scripts/benchmark NAME`, in this Python and without a virtual environment."""

import sys

from commands.benchmark import parse_options, work
from launch.interrupts import Interrupted, raise_on_signals
from launch.problems import LaunchError

raise_on_signals()
try:
    sys.exit(work(parse_options(sys.argv[1:])))
except LaunchError as problem:
    sys.exit(str(problem))
except Interrupted as interruption:
    sys.exit(interruption.exit_code)
