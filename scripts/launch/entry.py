"""How every script starts: read the options, see to the environment, go on inside it."""

import argparse
import os
import sys
from collections.abc import Callable

from launch.environment import choose_folder, ensure_environment
from launch.interrupts import Interrupted, raise_on_signals
from launch.problems import LaunchError

PROBLEM_CODE = 1


def run_script(parse: Callable[[list[str]], argparse.Namespace], work: Callable[[argparse.Namespace], int]) -> None:
    """Run `work` in the virtual environment with the options that `parse` read, and exit.

    All up to `work` runs twice: in whatever Python started the script and then, in place of that process, in
    the environment's. So `parse` may import the standard library only.
    """
    raise_on_signals()
    try:
        options = parse(sys.argv[1:])
        environment = ensure_environment(choose_folder(options.venv), options.python)
        if not environment.is_active():
            os.execv(environment.python, [str(environment.python), *sys.argv])
        code = work(options)
    except LaunchError as problem:
        print(problem, file=sys.stderr)
        code = PROBLEM_CODE
    except Interrupted as interruption:
        print(f"Stopped by {interruption}; nothing is left running.", file=sys.stderr)
        code = interruption.exit_code
    sys.exit(code)
