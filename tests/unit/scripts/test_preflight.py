"""What a person is told before anything is started."""

import shutil
import sys
from pathlib import Path

import pytest

from launch import preflight
from launch.interpreter import Interpreter, describe_interpreter, find_library_folder
from launch.problems import LaunchError


@pytest.fixture
def interpreter() -> Interpreter:
    return describe_interpreter(sys.executable)


def pretend(**changes) -> Interpreter:
    facts = {
        "path": "/opt/python",
        "version": (3, 11),
        "library_folders": (),
        "headers": Path("/nowhere"),
        "can_make_environments": True,
    }
    return Interpreter(**{**facts, **changes})


def test_this_machine_passes(interpreter, tmp_path):
    preflight.check_version(interpreter)
    preflight.check_venv_module(interpreter)
    find_library_folder(interpreter)
    preflight.check_shared_memory()
    preflight.check_memory()


@pytest.mark.parametrize("version", [(3, 9), (3, 13)])
def test_unsupported_python_names_those_that_are(version):
    with pytest.raises(LaunchError, match=r"3\.10, 3\.11 and 3\.12.*--python"):
        preflight.check_version(pretend(version=version))


def test_missing_venv_module_names_the_package():
    with pytest.raises(LaunchError, match=r"apt install python3\.11-venv"):
        preflight.check_venv_module(pretend(can_make_environments=False))


def test_package_to_compile_names_what_for():
    with pytest.raises(LaunchError, match=r"geventhttpclient.*apt install gcc python3\.12-dev"):
        preflight.check_compiler(pretend(version=(3, 12)))
    preflight.check_compiler(pretend(version=(3, 11)))


def test_missing_library_names_the_package():
    with pytest.raises(LaunchError, match=r"libpython3\.99\.so\.1\.0 is missing.*apt install libpython3\.99"):
        find_library_folder(pretend(version=(3, 99)))


def test_library_beside_the_interpreter_is_found(tmp_path):
    (tmp_path / "libpython3.99.so.1.0").touch()
    assert find_library_folder(pretend(version=(3, 99), library_folders=(tmp_path,))) == tmp_path


def test_library_on_the_loaders_path_needs_no_folder(tmp_path, monkeypatch):
    (tmp_path / "libpython3.99.so.1.0").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert find_library_folder(pretend(version=(3, 99))) is None


def test_what_is_no_python_is_refused():
    with pytest.raises(LaunchError, match=r"'no-such-python' is not a Python.*--python"):
        describe_interpreter("no-such-python")
    with pytest.raises(LaunchError, match="is not a Python"):
        describe_interpreter(shutil.which("false") or "/bin/false")


def test_full_disk_is_named_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "DISK_NEEDED", 1 << 60)
    with pytest.raises(LaunchError, match=rf"{tmp_path} has \d+ MiB free.*--venv"):
        preflight.check_disk(tmp_path / "not" / "made" / "yet")


def test_small_shared_memory_is_named_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "SHARED_MEMORY_NEEDED", 1 << 60)
    with pytest.raises(LaunchError, match=r"MiB free.*remount,size=1g.*--shm-size=1g"):
        preflight.check_shared_memory()


def test_no_shared_memory_counts_as_none(tmp_path):
    with pytest.raises(LaunchError, match="has 0 MiB free"):
        preflight.check_shared_memory(tmp_path / "shm")


def test_little_memory_is_named(tmp_path):
    report = tmp_path / "meminfo"
    report.write_text("MemTotal: 1024 kB\nMemAvailable: 524288 kB\n")
    with pytest.raises(LaunchError, match="512 MiB of memory are available"):
        preflight.check_memory(report)


def test_all_that_is_missing_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "DISK_NEEDED", 1 << 60)
    lacking = pretend(version=(3, 12), library_folders=(Path("/nowhere"),), can_make_environments=False)
    with pytest.raises(LaunchError) as caught:
        preflight.check_installation(lacking, tmp_path)
    assert "python3.12-venv" in str(caught.value)
    assert "--venv" in str(caught.value)
