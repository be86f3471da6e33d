"""Which tritonserver runs: one on PATH, as in NVIDIA's container, else the one of nvidia-pytriton's wheel."""

import re
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from launch.problems import LaunchError

STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class Distribution:
    """The files of an installed Triton Inference Server."""

    executable: Path
    python_backend: Path  # folder of libtriton_python.so and triton_python_backend_utils.py
    stub: Path  # the executable that runs a model's Python, linked to one version's libpython
    caches: Path


def find_distribution() -> Distribution:
    """Find the server to run; raises `LaunchError` if it cannot run models with this Python."""
    on_path = shutil.which("tritonserver")
    distribution = _read_installation(Path(on_path)) if on_path else _read_wheel()
    version = "{}.{}".format(*sys.version_info[:2])
    built_for = re.search(rb"libpython(3\.\d+)\.so", distribution.stub.read_bytes())
    if built_for and built_for[1].decode() != version:
        other = built_for[1].decode()
        raise LaunchError(
            f"{distribution.executable} runs models with Python {other}, but the environment has {version}: "
            f"make another with --python python{other} --venv .venv-{other}, or take that server off PATH."
        )
    return distribution


def _read_installation(executable: Path) -> Distribution:
    root = executable.resolve().parent.parent
    python_backend = root / "backends" / "python"
    if not (python_backend / STUB).exists():
        raise LaunchError(f"{executable} has no Python backend in {python_backend}: install it, or take it off PATH.")
    return Distribution(executable, python_backend, python_backend / STUB, root / "caches")


def _read_wheel() -> Distribution:
    package = find_spec("pytriton")
    if package is None or package.origin is None:
        raise LaunchError(
            f"{sys.prefix} holds no tritonserver: start with scripts/serve, which installs requirements.lock."
        )
    root = Path(package.origin).parent / "tritonserver"
    stub = root / "python_backend_stubs" / "{}.{}".format(*sys.version_info[:2]) / STUB
    return Distribution(root / "bin" / "tritonserver", root / "backends" / "python", stub, root / "caches")
