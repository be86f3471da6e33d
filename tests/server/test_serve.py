"""`scripts/serve` as a person runs it, with a real tritonserver and the least of models."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from launch.paths import CHECKOUT
from launch.ports import Ports, choose_free_ports
from launch.problems import LaunchError

ECHO = Path(__file__).with_name("echo")
REPOSITORY = ECHO / "model_repository"
BACKENDS = ECHO / "python_backends"
SHARED_MEMORY = Path("/dev/shm")
START_SECONDS = 60.0
STOP_SECONDS = 60.0  # more than the keeper ever takes


class Script:
    """`scripts/serve` in a process of its own, as a terminal would start it."""

    def __init__(self, folder: Path, ports: Ports, *options: str, repository: Path = REPOSITORY) -> None:
        self.output = folder / "output.txt"
        # Tests may run under nohup, whose ignored SIGHUP is inherited; a terminal does not ignore it.
        command = ["env", "--default-signal=HUP", sys.executable, str(CHECKOUT / "scripts" / "serve")]
        command += ["--venv", sys.prefix]
        command += ["--model-repository", str(repository), "--python-backends", str(BACKENDS)]
        command += [f"--{name}-port={port}" for name, port in asdict(ports).items()]
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.temporary)},
            )

    def wait_for(self, pattern: str) -> None:
        """Wait until the script has printed this."""
        self.wait_until(lambda: re.search(pattern, self.output.read_text()))

    def wait_until(self, condition) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Wait for its end; give its exit code and what it printed."""
        code = self.process.wait(STOP_SECONDS)
        return code, self.output.read_text()

    def list_processes(self) -> list[str]:
        """Command lines of all that runs with this script's folder for temporary files."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:  # ended meanwhile, or not ours
                continue
        return found

    def list_segments(self) -> list[str]:
        return [file.name for file in SHARED_MEMORY.glob(f"swiftdiffusion_{self.process.pid}_*")]

    def assert_nothing_left(self) -> None:
        assert self.list_processes() == []
        assert self.list_segments() == []
        assert list(self.temporary.iterdir()) == []


@pytest.fixture
def start(tmp_path):
    """Start the script; what a failed test leaves is ended."""
    scripts: list[Script] = []

    def start(*options: str, ports: Ports | None = None, repository: Path = REPOSITORY) -> Script:
        scripts.append(Script(tmp_path, ports or choose_free_ports(), *options, repository=repository))
        return scripts[-1]

    yield start
    for script in scripts:
        if script.process.poll() is None:
            script.process.terminate()
            script.process.wait(STOP_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_when_ready_leaves_nothing(start, number):
    script = start()
    script.wait_for("Ctrl-C stops the server")
    assert script.list_segments()  # there is something to leave
    script.process.send_signal(number)
    code, output = script.end()
    assert code == 128 + number
    assert number.name in output
    script.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_models_load_leaves_nothing(start, number, alter_repository, set_parameter):
    slow = alter_repository(lambda _, config: set_parameter(config, "load_seconds", "60"), REPOSITORY)
    script = start(repository=slow)
    script.wait_until(script.list_segments)
    script.process.send_signal(number)
    code, _ = script.end()
    assert code == 128 + number
    script.assert_nothing_left()


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.25, 0.35, 0.5])
def test_signal_at_any_moment_leaves_nothing(start, seconds):
    script = start()
    time.sleep(seconds)  # any moment will do: there is no condition to wait for
    script.process.send_signal(signal.SIGTERM)
    script.end()
    script.assert_nothing_left()


def test_killed_script_takes_its_server_along(start):
    script = start()
    script.wait_for("Ctrl-C stops the server")
    script.process.kill()
    script.end()
    deadline = time.monotonic() + STOP_SECONDS
    while script.list_processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    script.assert_nothing_left()


def test_prints_urls_and_models(start):
    ports = choose_free_ports()
    script = start(ports=ports)
    script.wait_for("Ctrl-C stops the server")
    output = script.output.read_text()
    assert f"http://127.0.0.1:{ports.http}" in output
    assert f"127.0.0.1:{ports.grpc}" in output
    assert f"http://127.0.0.1:{ports.metrics}/metrics" in output
    assert re.search(r"models +echo", output)


def test_options_reach_tritonserver(start):
    script = start("--verbose", "--model-control-mode=explicit", "--", "--id", "by-the-way")
    script.wait_for("Ctrl-C stops the server")
    script.wait_for(r"server_id +\| by-the-way")
    assert re.search(r"models +none", script.output.read_text())


def test_only_the_servers_own_models_may_load_models(serve):
    """Who may load a model may have it run code."""
    with serve(REPOSITORY, python_backends=BACKENDS) as server:
        assert server.list_models() == ["echo"]
        with tritonclient.http.InferenceServerClient(server.http_url) as http:
            with pytest.raises(InferenceServerException, match="restricted"):
                http.load_model("echo")
            with pytest.raises(InferenceServerException, match="restricted"):
                http.unload_model("echo")
            assert http.is_model_ready("echo")
        with tritonclient.grpc.InferenceServerClient(server.grpc_url) as grpc:
            with pytest.raises(InferenceServerException, match="restricted"):
                grpc.load_model("echo")
            with pytest.raises(InferenceServerException, match="restricted"):
                grpc.unload_model("echo")


def test_taken_port_is_named_with_its_option(start):
    ports = choose_free_ports()
    with socket.create_server(("127.0.0.1", ports.grpc)):
        code, output = start(ports=ports).end()
    assert code == 1
    assert f"Port {ports.grpc} of 127.0.0.1" in output
    assert "--grpc-port" in output


def test_model_that_fails_to_load_is_explained(serve, alter_repository, set_parameter):
    broken = alter_repository(lambda _, config: set_parameter(config, "load_error", "no weights"), REPOSITORY)
    expectation = pytest.raises(LaunchError, match=r"failed to load 'echo'.*no weights")
    with expectation, serve(broken, python_backends=BACKENDS):
        pass


def test_unknown_option_of_tritonserver_is_explained(serve):
    expectation = pytest.raises(LaunchError, match=r"unrecognized option.*--no-such-option")
    with expectation, serve(REPOSITORY, "--no-such-option", python_backends=BACKENDS):
        pass


def test_folder_that_is_none_is_named(start, tmp_path):
    code, output = start(repository=tmp_path / "nowhere").end()
    assert code == 1
    assert str(tmp_path / "nowhere") in output


def test_server_on_path_is_used(start, tmp_path, monkeypatch):
    """An installation laid out as in NVIDIA's container, made of the wheel's files."""
    from launch.distribution import find_distribution

    wheel = find_distribution()
    root = tmp_path / "tritonserver"
    (root / "bin").mkdir(parents=True)
    (root / "backends" / "python").mkdir(parents=True)
    for file in (wheel.stub, *wheel.python_backend.glob("*[yo]")):
        (root / "backends" / "python" / file.name).symlink_to(file)
    executable = root / "bin" / "tritonserver"
    executable.write_text(f'#!/bin/sh\nexec {wheel.executable} "$@" --id=the-one-on-path\n')
    executable.chmod(0o755)
    monkeypatch.setenv("PATH", f"{root / 'bin'}:{os.environ['PATH']}")
    script = start("--verbose")
    script.wait_for("Ctrl-C stops the server")
    script.wait_for(r"server_id +\| the-one-on-path")
