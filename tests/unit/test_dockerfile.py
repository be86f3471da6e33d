"""The Dockerfile against the checkout that it copies: what it names is there, and what it asks for is what we take."""

import ast
import fnmatch
import importlib
import inspect
import json
import os
import re
import shlex
from pathlib import Path

import pytest
import tomlkit
from packaging.specifiers import SpecifierSet

from commands import build, serve
from launch.environment import DEFAULT_FOLDER, Environment
from launch.paths import CHECKOUT
from launch.ports import Ports
from swiftdiffusion.engines.tensorrt.library import OLDEST

TEXT = (CHECKOUT / "docker" / "Dockerfile").read_text()
WHOLE_LINES = re.sub(r"\\\n(#\s*)?\s*", "", TEXT).splitlines()
HEADER = [line.lstrip("# ") for line in WHOLE_LINES if line.startswith("#   docker")]
INSTRUCTIONS = [line.partition(" ")[::2] for line in WHOLE_LINES if line and not line.startswith("#")]
PARSERS = {"scripts/serve": serve.parse_options, "scripts/build": build.parse_options}


def find(name):
    return [argument for instruction, argument in INSTRUCTIONS if instruction == name]


def is_left_out(path):
    patterns = (CHECKOUT / ".dockerignore").read_text().split()
    parts = Path(path).parts
    ends = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    return any(fnmatch.fnmatch(end, pattern) for end in ends for pattern in patterns)


def list_commands():
    """What the image starts by itself, and what its header tells to run in it."""
    (started,) = map(json.loads, find("CMD"))
    told = [shlex.split(line.split(" swiftdiffusion ")[1]) for line in HEADER if line.startswith("docker run")]
    return [started, *told]


def test_what_is_copied_is_there_and_in_the_context():
    for argument in find("COPY"):
        *sources, _ = argument.split()
        for source in sources:
            assert (CHECKOUT / source).exists(), source
            assert source == "." or not is_left_out(source)
    files = ("pyproject.toml", "requirements.lock", "README.md", "LICENSE", "scripts/serve", "scripts/build")
    folders = ("python_backends", "plugins", "build", "model_repository")
    assert [path for path in (*files, *folders) if is_left_out(path)] == []
    assert all(is_left_out(path) for path in (".git/HEAD", ".venv/bin/python3", "outputs/build"))


@pytest.mark.parametrize("command", list_commands(), ids=lambda command: " ".join(command[:2]))
def test_what_it_starts_is_there_and_takes_its_options(command):
    script, *arguments = command
    assert os.access(CHECKOUT / script, os.X_OK)
    options = PARSERS[script](arguments)
    assert not getattr(options, "further_options", ())  # which tritonserver would get


def test_what_is_built_is_what_is_served():
    (built,) = [line for line in HEADER if "scripts/build" in line]
    (served,) = [line for line in HEADER if "scripts/serve" in line]
    out = build.parse_options(shlex.split(built.split("scripts/build")[1])).out
    options = serve.parse_options(shlex.split(served.split("scripts/serve")[1]))
    assert options.model_repository == [out / "model_repository"]


def test_the_environment_is_made_as_the_scripts_make_it():
    (line,) = [argument for argument in find("RUN") if "PYTHONPATH" in argument]
    ((folder, code),) = re.findall(r'^PYTHONPATH=(\S+) python3 -c "(.*)"$', line)
    assert (CHECKOUT / folder).is_dir()
    imported, called = ast.parse(code).body
    assert isinstance(imported, ast.ImportFrom) and isinstance(called, ast.Expr) and isinstance(called.value, ast.Call)
    module = importlib.import_module(str(imported.module))
    names = {alias.asname or alias.name: getattr(module, alias.name) for alias in imported.names}
    arguments = [eval(ast.unparse(argument), dict(names)) for argument in called.value.args]
    bound = inspect.signature(names[ast.unparse(called.value.func)]).bind(*arguments)
    assert bound.arguments["folder"] == DEFAULT_FOLDER


def test_tensorrt_goes_into_that_environment_in_a_version_that_the_engine_takes():
    (line,) = [argument for argument in find("RUN") if "pip install" in argument and "tensorrt" in argument]
    assert CHECKOUT / line.split()[0] == Environment(DEFAULT_FOLDER).python
    (asked,) = [argument for argument in find("ARG") if argument.startswith("TENSORRT=")]
    assert '"tensorrt${TENSORRT}"' in line
    versions = SpecifierSet(shlex.split(asked.removeprefix("TENSORRT="))[0])
    major, minor = OLDEST
    assert f"{major}.{minor}.0.34" in versions and f"{major}.{minor - 1}.9" not in versions
    ((oldest, newest),) = re.findall(r"needs TensorRT ([\d.]+) to (\d+)", (CHECKOUT / "README.md").read_text())
    assert oldest == f"{major}.{minor}"
    assert f"{newest}.99" in versions and f"{int(newest) + 1}.0" not in versions


def test_torchvision_goes_into_it_as_the_readme_says_and_is_of_the_locked_torch():
    line, tried = [argument for argument in find("RUN") if "torchvision" in argument]
    assert tried == f'{line.split()[0]} -c "import torchvision.io"'
    assert CHECKOUT / line.split()[0] == Environment(DEFAULT_FOLDER).python
    asked = line.split()[-1]
    readme = (CHECKOUT / "README.md").read_text()
    ((told, torch),) = re.findall(r"`\.venv/bin/pip install --no-deps (\S+)`, the one for torch ([\d.]+);", readme)
    assert asked == told
    assert f"\ntorch=={torch}." in (CHECKOUT / "requirements.lock").read_text()
    name, _, version = asked.partition("==")
    extras = tomlkit.parse((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (allowed,) = (one for one in extras["gpu"] if one.startswith(name))
    assert version in SpecifierSet(allowed.removeprefix(name))


def test_the_header_builds_this_file_from_the_image_that_it_asks_for():
    (line,) = [line for line in HEADER if line.startswith("docker build")]
    words = shlex.split(line)
    assert CHECKOUT / words[words.index("-f") + 1] == CHECKOUT / "docker" / "Dockerfile"
    given = words[words.index("--build-arg") + 1].partition("=")[0]
    assert given in find("ARG") and find("FROM") == [f"${{{given}}}"]


def test_a_servers_ports_are_exposed():
    (ports,) = find("EXPOSE")
    assert {int(port) for port in ports.split()} == set(vars(Ports()).values())
