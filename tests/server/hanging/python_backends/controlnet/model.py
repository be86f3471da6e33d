"""The `controlnet` backend, whose process hangs when it is told to: it lives, says so, and answers nothing."""

import os
import runpy
import time
from pathlib import Path
from typing import Any

import swiftdiffusion

REAL = Path(swiftdiffusion.__file__).resolve().parents[1] / "controlnet" / "model.py"
Model: Any = runpy.run_path(str(REAL))["TritonPythonModel"]


class TritonPythonModel(Model):
    """As the real one until its model's folder has a file `hang` with the number of this process."""

    def initialize(self, args):
        self._hang = Path(args["model_repository"], "hang")
        super().initialize(args)

    def execute(self, requests):
        while self._hang.exists() and self._hang.read_text() == str(os.getpid()):
            time.sleep(0.05)
        return super().execute(requests)
