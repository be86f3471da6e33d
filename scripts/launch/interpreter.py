"""A Python interpreter, and the shared library of it that Triton's Python backend loads."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from launch.problems import LaunchError

SUPPORTED = ((3, 10), (3, 11), (3, 12))

DESCRIBE = """
import importlib.util, json, sys, sysconfig
print(json.dumps({
    "version": sys.version_info[:2],
    "folders": [sysconfig.get_config_var("LIBDIR"), sys.base_prefix + "/lib"],
    "headers": sysconfig.get_path("include"),
    "can_make_environments": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """What the scripts want to know of an interpreter."""

    path: str
    version: tuple[int, int]
    library_folders: tuple[Path, ...]  # where its own libpython may lie
    headers: Path  # folder of Python.h, if it is installed
    can_make_environments: bool

    @property
    def name(self) -> str:
        """The name of its command, such as python3.11."""
        return "python{}.{}".format(*self.version)

    @property
    def library(self) -> str:
        """The file that the Python backend's stub loads."""
        return f"lib{self.name}.so.1.0"


def describe_interpreter(path: str) -> Interpreter:
    """Ask the interpreter at `path`, a file or a command, about itself; `LaunchError` if it cannot run."""
    try:
        answer = subprocess.run([path, "-c", DESCRIBE], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise LaunchError(
            f"{path!r} is not a Python that runs here: name one with --python, such as python3.11."
        ) from error
    facts = json.loads(answer.stdout)
    return Interpreter(
        path=path,
        version=(facts["version"][0], facts["version"][1]),
        library_folders=tuple(Path(folder) for folder in facts["folders"] if folder),
        headers=Path(facts["headers"]),
        can_make_environments=facts["can_make_environments"],
    )


def find_library_folder(interpreter: Interpreter) -> Path | None:
    """Find the folder to put on LD_LIBRARY_PATH, or None where the loader finds the library by itself.

    The interpreter's own library goes before one of the system, which may be of another patch release.
    Raises `LaunchError` if there is none.
    """
    known_to_loader = _list_known_to_loader(interpreter.library)
    for folder in interpreter.library_folders:
        file = folder / interpreter.library
        if file.exists():
            return None if any(file.samefile(known) for known in known_to_loader) else folder
    if known_to_loader:
        return None
    raise LaunchError(
        f"{interpreter.library} is missing, which Triton's Python backend loads: install it "
        f"(Debian, Ubuntu: apt install lib{interpreter.name}; Fedora: dnf install {interpreter.name}-libs; "
        "pyenv: build Python with --enable-shared)."
    )


def _list_known_to_loader(library: str) -> list[Path]:
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    found = [Path(folder) / library for folder in folders if (Path(folder) / library).exists()]
    ldconfig = shutil.which("ldconfig", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if ldconfig:
        cache = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout
        entries = [line.split(" => ") for line in cache.splitlines() if line.split()[:1] == [library]]
        found += [Path(entry[1]) for entry in entries if len(entry) == 2 and Path(entry[1]).exists()]
    return found
