"""When an environment is taken as it is."""

import json
import sys
from pathlib import Path

import pytest

from launch import environment
from launch.environment import Environment, choose_folder
from launch.interpreter import Interpreter
from launch.problems import LaunchError


@pytest.fixture
def made(tmp_path) -> Environment:
    """An environment as the scripts leave it, without its packages."""
    made = Environment(tmp_path)
    made.python.parent.mkdir()
    made.python.symlink_to(sys.executable)
    made.stamp.write_text(json.dumps({"contents": environment._hash_contents(), "python": [3, 11]}))
    return made


def test_finished_environment_is_current(made):
    assert made.is_current()


def test_environment_without_stamp_is_not(made):
    made.stamp.unlink()
    assert not made.is_current()


def test_environment_with_half_a_stamp_is_not(made):
    made.stamp.write_text(made.stamp.read_text()[:20])
    assert not made.is_current()


def test_environment_of_another_lock_file_is_not(made, tmp_path, monkeypatch):
    changed = tmp_path / "requirements.lock"
    changed.write_text("numpy==1.26.3\n")
    monkeypatch.setattr(environment, "LOCK_FILE", changed)
    assert not made.is_current()


def test_environment_whose_interpreter_went_is_not(made):
    made.python.unlink()
    made.python.symlink_to("/nowhere/python3")
    assert not made.is_current()


@pytest.mark.parametrize(("version", "current"), [((3, 11), True), ((3, 12), False)])
def test_interpreter_asked_for_counts(made, version, current):
    assert made.is_current(Interpreter("python", version, (), Path(), True)) is current


def test_interrupted_environment_is_made_anew(made):
    made.stamp.write_text("{}")
    assert not made.is_current()
    environment._empty(made)
    assert list(made.folder.iterdir()) == [made.stamp]


def test_somebody_elses_folder_is_not_emptied(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(LaunchError, match=rf"{tmp_path} holds something.*--venv"):
        environment._empty(Environment(tmp_path))
    assert (tmp_path / "thesis.tex").exists()


def test_folder_is_the_options_then_the_variables_then_the_checkouts(monkeypatch):
    monkeypatch.setenv(environment.FOLDER_VARIABLE, "/variable")
    assert choose_folder(Path("/option")) == Path("/option")
    assert choose_folder(None) == Path("/variable")
    monkeypatch.delenv(environment.FOLDER_VARIABLE)
    assert choose_folder(None) == environment.DEFAULT_FOLDER


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Collecting torch==2.13.0", "found torch"),
        ("  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (180.1 MB)", "fetched torch (180.1 MB)"),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        ("WARNING: something", None),
    ],
)
def test_pips_output_is_made_short(line, said):
    assert environment._describe_pip_line(line) == said
