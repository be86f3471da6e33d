"""The virtual environment: the packages of the lock file, and this project, editable."""

import hashlib
import json
import os
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launch.children import run_quietly
from launch.interpreter import Interpreter, describe_interpreter
from launch.paths import CHECKOUT, LOCK_FILE, LOGS, PROJECT_FILE, shorten
from launch.preflight import check_installation
from launch.problems import LaunchError
from launch.progress import Progress
from launch.turns import one_at_a_time

FOLDER_VARIABLE = "SWIFTDIFFUSION_VENV"
DEFAULT_FOLDER = CHECKOUT / ".venv"

PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
PIP_INSTALL = (*PIP, "install", "--progress-bar", "off", "--no-compile")
# pip would compile on one processor, and without bytecode each process of a server would compile for itself.
COMPILE = ("-c", "import compileall, sys; compileall.compile_dir(sys.argv[1], quiet=2, workers=0)")


@dataclass(frozen=True)
class Environment:
    """A virtual environment in `folder`, made or not."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python3"

    @property
    def stamp(self) -> Path:
        """The file that marks it as made here, and says what was installed once all of it was."""
        return self.folder / "swiftdiffusion.json"

    def is_active(self) -> bool:
        """Whether this very process runs in it."""
        return Path(sys.prefix).resolve() == self.folder.resolve()

    def is_current(self, interpreter: Interpreter | None = None) -> bool:
        """Whether it holds what the lock file asks for, made by `interpreter`'s version if one is given."""
        try:
            stamp = json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return False
        if interpreter and stamp.get("python") != list(interpreter.version):
            return False
        return stamp.get("contents") == _hash_contents() and self.python.exists()

    def has_pip(self, interpreter: Interpreter) -> bool:
        """Whether it is of the interpreter's version and far enough to install packages into it."""
        site_packages = self.folder / "lib" / interpreter.name / "site-packages"
        return self.python.exists() and any(site_packages.glob("pip-*.dist-info/RECORD"))


def choose_folder(option: Path | None) -> Path:
    """Take the environment's folder from the option, the variable SWIFTDIFFUSION_VENV, or the checkout."""
    named = option or os.environ.get(FOLDER_VARIABLE)
    return Path(named).absolute() if named else DEFAULT_FOLDER


def ensure_environment(folder: Path, python: str | None) -> Environment:
    """Make the environment, or bring it up to date, if need be.

    `python` is the interpreter to make it with; by default whatever made it, else the one that runs this.
    Raises `LaunchError` if something is missing for that, or an installation fails.
    """
    environment = Environment(folder)
    wanted = describe_interpreter(python) if python else None
    if environment.is_current(wanted):
        return environment
    # of two that start together one installs after the other
    with one_at_a_time(LOCK_FILE, "waiting for another script that installs packages"):
        if not environment.is_current(wanted):
            _install(environment, wanted or _choose_interpreter(environment))
    return environment


def _choose_interpreter(environment: Environment) -> Interpreter:
    """Take the one that made the environment, as long as that works, else the one that runs this."""
    with suppress(LaunchError):  # there is none, or it no longer runs
        maker = describe_interpreter(str(environment.python))
        if environment.has_pip(maker):
            return maker
    return describe_interpreter(sys.executable)


def _install(environment: Environment, interpreter: Interpreter) -> None:
    check_installation(interpreter, environment.folder)
    log = LOGS / "install.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    if not environment.has_pip(interpreter):
        _empty(environment)
        with Progress(f"making {shorten(environment.folder)} with {interpreter.name}") as progress:
            run_quietly([interpreter.path, "-m", "venv", str(environment.folder)], log, progress, cwd=CHECKOUT)
    _mark(environment)
    python = str(environment.python)
    with Progress("installing the packages of requirements.lock") as progress:
        install = [python, *PIP_INSTALL, "--prefer-binary", "-r", str(LOCK_FILE)]
        run_quietly(install, log, progress, cwd=CHECKOUT, describe=_describe_pip_line)
    with Progress("installing swiftdiffusion, editable") as progress:
        install = [python, *PIP_INSTALL, "--no-deps", "--no-build-isolation", "--editable", str(CHECKOUT)]
        run_quietly(install, log, progress, cwd=CHECKOUT, describe=_describe_pip_line)
    with Progress("compiling") as progress:
        folder = environment.folder / "lib" / interpreter.name / "site-packages"
        run_quietly([python, *COMPILE, str(folder)], log, progress, cwd=CHECKOUT)
    _mark(environment, contents=_hash_contents(), python=interpreter.version)


def _empty(environment: Environment) -> None:
    """Remove what is in the folder, unless it may be somebody else's."""
    folder = environment.folder
    if folder.exists() and any(folder.iterdir()) and not environment.stamp.exists():
        raise LaunchError(f"{folder} holds something that these scripts did not make: name another with --venv.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _mark(environment)


def _mark(environment: Environment, **contents: object) -> None:
    environment.stamp.write_text(json.dumps(contents))


def _describe_pip_line(line: str) -> str | None:
    """Make a line of pip's output short, or None for one that says nothing to a person."""
    if match := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
        return f"found {match[1]}"
    if match := re.match(r"\s*(?:Downloading|Using cached) ([\w.-]+?)-\d\S* (\(.*\))", line):
        return f"fetched {match[1]} {match[2]}"
    if line.startswith("Installing collected packages"):
        return f"unpacking {line.count(',') + 1} packages"
    return None


def _hash_contents() -> str:
    # The checkout's place is part of it: an editable installation points there.
    parts = (LOCK_FILE.read_bytes(), PROJECT_FILE.read_bytes(), os.fsencode(CHECKOUT))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
