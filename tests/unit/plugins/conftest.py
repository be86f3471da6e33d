"""Kernels compiled for an H100 or H200, which needs no GPU."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch

# after lines that make a kernel's `source` and `options`
COMPILE = """
import json, os, subprocess, tempfile, triton
from triton.backends.compiler import GPUTarget
compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
tools = os.path.join(os.path.dirname(triton.__file__), "backends", "nvidia", "bin")

def apply(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True)

with tempfile.TemporaryDirectory() as folder:
    files = {kind: os.path.join(folder, "kernel." + kind) for kind in ("ptx", "cubin")}
    open(files["ptx"], "w").write(compiled.asm["ptx"])
    open(files["cubin"], "wb").write(compiled.asm["cubin"])
    told = apply(os.path.join(tools, "ptxas"), "-v", "-arch=sm_90a", files["ptx"], "-o", os.devnull)
    instructions = apply(os.path.join(tools, "cuobjdump"), "--dump-sass", files["cubin"]).stdout
print(json.dumps({
    "shared": compiled.metadata.shared, "assembly": compiled.asm["ptx"], "told": told.stdout + told.stderr,
    "instructions": instructions,
}))
"""


@dataclass(frozen=True)
class Compiled:
    """A kernel: its shared memory in bytes, its PTX, what the assembler told, and the GPU's own instructions."""

    shared: int
    assembly: str
    told: str
    instructions: str


@pytest.fixture
def compile_for_hopper():
    """Compile what `source`, a script, makes of its arguments. In a process of its own: here Triton may interpret."""

    def compile_kernel(source: str, *arguments: str) -> Compiled:
        variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        command = [sys.executable, "-c", source + COMPILE, *arguments]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return Compiled(**json.loads(done.stdout))

    return compile_kernel


@pytest.fixture
def interpret(monkeypatch):
    """Have a module's Gluon kernels interpreted, for a GPU that is not there, of three multiprocessors."""
    from triton.experimental.gluon._runtime import GluonJITFunction

    from .gluon_interpreter import Kernel

    properties = SimpleNamespace(multi_processor_count=3)  # few, so that each program goes through several tiles
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    def interpret_kernels(module: ModuleType, seed: int = 0) -> None:
        for name, value in list(vars(module).items()):
            if isinstance(value, (GluonJITFunction, Kernel)):
                monkeypatch.setattr(module, name, Kernel(value, seed))

    return interpret_kernels
