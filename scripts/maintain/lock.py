"""Writes `requirements.lock`: one exact version of every package for each supported Python.

    python3 scripts/maintain/lock.py python3.10 python3.11 python3.12

asks the `pip` of each interpreter what it would install for the project with all its extras and merges the answers:
a version that differs between them gets a marker. Nothing is installed.
"""

import argparse
import json
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK_FILE = CHECKOUT / "requirements.lock"

# What a CUDA build of torch requires, which pins it exactly itself. A CPU build needs none of it.
ONLY_FOR_CUDA = re.compile(r"(nvidia-(?!pytriton)|cuda-).*")

HEADER = """\
# Exact versions of all that the server, its clients and the tests need, for Python 3.10 to 3.12.
# torch is pinned without a local version: where a CPU build (2.x.y+cpu) is to be had it is taken, else the
# CUDA build, whose own exact requirements (nvidia-*, cuda-*) pip adds.
# Written by: python3 scripts/maintain/lock.py python3.10 python3.11 python3.12
"""


@dataclass(frozen=True)
class Resolution:
    """What one interpreter's pip would install."""

    python: str  # "3.11"
    versions: Mapping[str, str]


def resolve(interpreter: str, constraints: list[str]) -> Resolution:
    """Ask `interpreter`'s pip for the project's packages; `CalledProcessError` if it finds no answer."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [interpreter, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--prefer-binary"]
        command += ["--quiet", "--report", str(report), f"{CHECKOUT}[server,build,s3,tensorrt,develop]", *constraints]
        subprocess.run(command, check=True)
        return read_report(json.loads(report.read_text()))


def read_report(report: Mapping) -> Resolution:
    """Take names and versions from an installation report of pip (format version 1)."""
    versions = {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if name != "swiftdiffusion" and not ONLY_FOR_CUDA.fullmatch(name):
            versions[name] = item["metadata"]["version"].partition("+")[0]
    return Resolution(report["environment"]["python_version"], versions)


def merge(resolutions: Iterable[Resolution]) -> list[str]:
    """Give the lock file's lines, a marker where the Pythons differ."""
    resolutions = list(resolutions)
    pythons: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for resolution in resolutions:
        for name, version in resolution.versions.items():
            pythons[name][version].append(resolution.python)
    lines = []
    for name in sorted(pythons):
        for version, wanted_by in pythons[name].items():
            marker = " or ".join(f'python_version == "{python}"' for python in wanted_by)
            everywhere = len(wanted_by) == len(resolutions)
            lines.append(f"{name}=={version}" + ("" if everywhere else f" ; {marker}"))
    return lines


def main() -> None:
    """Resolve for every interpreter named and rewrite the lock file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreters", nargs="+", metavar="PYTHON")
    parser.add_argument(
        "--constrain", action="append", default=[], metavar="NAME==VERSION", help="hold a package where it is"
    )
    options = parser.parse_args()
    resolutions = [resolve(interpreter, options.constrain) for interpreter in options.interpreters]
    LOCK_FILE.write_text(HEADER + "\n".join(merge(resolutions)) + "\n")
    print(f"wrote {LOCK_FILE.name} for Python {', '.join(r.python for r in resolutions)}")


if __name__ == "__main__":
    main()
