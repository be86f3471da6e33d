"""Checks of the machine. Each raises `LaunchError`, one sentence on how to mend what is missing."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from launch.interpreter import SUPPORTED, Interpreter, find_library_folder
from launch.ports import Ports, check_ports
from launch.problems import LaunchError

MEBIBYTE = 1 << 20
SHARED_MEMORY_NEEDED = 256 * MEBIBYTE  # a few MiB for each model instance, and room for big pictures
MEMORY_NEEDED = 3072 * MEBIBYTE
DISK_NEEDED = 4096 * MEBIBYTE  # the packages unpacked, and the wheels while they are

# tritonclient wants a geventhttpclient that is older than this Python
COMPILED_FOR = ((3, 12),)

SHARED_MEMORY = Path("/dev/shm")
MEMORY_REPORT = Path("/proc/meminfo")


def check_installation(interpreter: Interpreter, environment: Path) -> None:
    """Check what making the environment needs; raises `LaunchError` with a line for each thing missing."""
    check_version(interpreter)  # first and alone: the others depend on it
    check_all(
        partial(check_venv_module, interpreter),
        partial(check_compiler, interpreter),
        partial(find_library_folder, interpreter),
        partial(check_disk, environment),
    )


def check_serving(interpreter: Interpreter, ports: Ports, host: str) -> None:
    """Check what a server needs; raises `LaunchError` with a line for each thing missing."""
    check_all(
        partial(find_library_folder, interpreter),
        partial(check_ports, ports, host),
        check_shared_memory,
        check_memory,
    )


def check_all(*checks: Callable[[], object]) -> None:
    """Run every check, so that a person learns all that is missing at once."""
    sentences = []
    for check in checks:
        try:
            check()
        except LaunchError as problem:
            sentences.append(str(problem))
    if sentences:
        raise LaunchError("\n".join(sentences))


def check_version(interpreter: Interpreter) -> None:
    """Refuse a Python for which not all packages exist."""
    if interpreter.version in SUPPORTED:
        return
    commands = ["python{}.{}".format(*version) for version in reversed(SUPPORTED)]
    found = next((command for command in commands if shutil.which(command)), None)
    remedy = f"use --python {found}" if found else "install one of them and name it with --python"
    raise LaunchError(
        f"{interpreter.path} is {interpreter.name}, but the packages are for 3.10, 3.11 and 3.12: {remedy}."
    )


def check_venv_module(interpreter: Interpreter) -> None:
    """Refuse a Python whose distribution leaves out `venv` or `ensurepip`."""
    if not interpreter.can_make_environments:
        raise LaunchError(
            f"{interpreter.path} cannot make virtual environments: install its venv module "
            f"(Debian, Ubuntu: apt install {interpreter.name}-venv)."
        )


def check_compiler(interpreter: Interpreter) -> None:
    """Refuse a Python for which a package has to be compiled, where that cannot be done."""
    if interpreter.version not in COMPILED_FOR:
        return
    if not (shutil.which("cc") or shutil.which("gcc")) or not (interpreter.headers / "Python.h").exists():
        raise LaunchError(
            f"geventhttpclient has no wheel for {interpreter.name} and is compiled: "
            f"install gcc and the headers (Debian, Ubuntu: apt install gcc {interpreter.name}-dev), "
            "or use --python python3.11."
        )


def check_disk(folder: Path) -> None:
    """Refuse a file system too full for the packages."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < DISK_NEEDED:
        raise LaunchError(
            f"{existing} has {free // MEBIBYTE} MiB free and the packages need {DISK_NEEDED // MEBIBYTE}: "
            "make room, or name a folder on another disk with --venv."
        )


def check_shared_memory(folder: Path = SHARED_MEMORY) -> None:
    """Refuse a shared-memory file system too small for what models hand each other."""
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    if free < SHARED_MEMORY_NEEDED:
        raise LaunchError(
            f"{folder} has {free // MEBIBYTE} MiB free and models need {SHARED_MEMORY_NEEDED // MEBIBYTE}: "
            f"enlarge it (mount -o remount,size=1g {folder}; in Docker: docker run --shm-size=1g)."
        )


def check_memory(report: Path = MEMORY_REPORT) -> None:
    """Refuse a machine on which the models would be killed for want of memory."""
    available = next((line for line in report.read_text().splitlines() if line.startswith("MemAvailable:")), None)
    if available is None:
        return
    free = int(available.split()[1]) * 1024
    if free < MEMORY_NEEDED:
        raise LaunchError(
            f"{free // MEBIBYTE} MiB of memory are available and models need {MEMORY_NEEDED // MEBIBYTE}: "
            "end other programs, or serve fewer models from a --model-repository of your own."
        )
