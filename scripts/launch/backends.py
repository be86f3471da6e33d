"""Puts together the folder in which tritonserver looks for its backends."""

import shutil
from pathlib import Path

from launch.distribution import Distribution


def assemble_backends(folder: Path, distribution: Distribution, python_backends: Path) -> None:
    """Fill `folder` with the distribution's Python backend and each folder of ours that has a model.py."""
    python = folder / "python"
    python.mkdir(parents=True)
    # A copy: tritonserver refuses a Python-based backend if this link leads out of its folder.
    shutil.copy(distribution.python_backend / "libtriton_python.so", python)
    for file in (distribution.stub, distribution.python_backend / "triton_python_backend_utils.py"):
        (python / file.name).symlink_to(file)
    for model in sorted(python_backends.glob("*/model.py")):
        (folder / model.parent.name).symlink_to(model.parent.resolve())
