"""The virtual environment: the packages of the lock file, and this project, editable."""

import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launch.children import run_quietly
from launch.interpreter import Interpreter, describe_interpreter
from launch.paths import CHECKOUT, LOCK_FILE, LOGS, PROJECT_FILE
from launch.preflight import check_installation
from launch.progress import Progress

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
        """The file that says what was installed; there only after all of it was."""
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
        of_version = interpreter is None or tuple(stamp["python"]) == interpreter.version
        return of_version and stamp["contents"] == _hash_contents() and self.python.exists()


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
    with _one_at_a_time():
        if not environment.is_current(wanted):
            _install(environment, wanted or describe_interpreter(sys.executable))
    return environment


def _install(environment: Environment, interpreter: Interpreter) -> None:
    check_installation(interpreter, environment.folder)
    environment.stamp.unlink(missing_ok=True)
    log = LOGS / "install.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    if not _can_be_kept(environment, interpreter):
        with Progress(f"making {_show(environment.folder)} with {interpreter.name}") as progress:
            command = [interpreter.path, "-m", "venv", "--clear", str(environment.folder)]
            run_quietly(command, log, progress, cwd=CHECKOUT)
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
    contents = {"contents": _hash_contents(), "python": interpreter.version}
    environment.stamp.write_text(json.dumps(contents))


def _can_be_kept(environment: Environment, interpreter: Interpreter) -> bool:
    """Whether an environment that is not current, or half made, is of the right Python and has its pip."""
    site_packages = environment.folder / "lib" / interpreter.name / "site-packages"
    return environment.python.exists() and any(site_packages.glob("pip-*.dist-info/RECORD"))


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


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let two scripts that start together install one after the other; the kernel drops a dead one's lock."""
    with LOCK_FILE.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with Progress("waiting for another script that installs packages"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _show(folder: Path) -> str:
    return str(folder.relative_to(CHECKOUT)) if folder.is_relative_to(CHECKOUT) else str(folder)
