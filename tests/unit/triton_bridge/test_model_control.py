"""What is read off a tritonserver's command line and its processes."""

import mmap
import os
import shutil
import signal
import subprocess
import time

import pytest

from swiftdiffusion.triton_bridge.model_control import TritonModelControl, read_repository_api
from swiftdiffusion.triton_bridge.shared_memory import SHARED_MEMORY, find_orphans, free

RESTRICTED = "--grpc-restricted-protocol="
TAIL = shutil.which("tail") or pytest.skip("needs tail", allow_module_level=True)


@pytest.mark.parametrize(
    ("arguments", "url", "headers"),
    [
        (["--model-control-mode=explicit"], "127.0.0.1:8001", {}),
        (["--model-control-mode", "explicit", "--grpc-port", "9"], "127.0.0.1:9", {}),
        (["--model-control-mode=explicit", "--grpc-address=::", "--load-model=*"], "[::1]:8001", {}),
        (
            ["--model-control-mode=explicit", "--grpc-address=10.0.0.1", f"{RESTRICTED}health,model-repository:k=v=w"],
            "10.0.0.1:8001",
            {"triton-grpc-protocol-k": "v=w"},
        ),
        (["--model-control-mode=explicit", f"{RESTRICTED}health:k=v"], "127.0.0.1:8001", {}),
    ],
)  # fmt: skip
def test_where_models_are_loaded(arguments, url, headers):
    api = read_repository_api(["--model-repository=/models", *arguments, "--http-port=7"])
    assert (api.url, api.headers, api.refusal) == (url, headers, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "without --model-control-mode=explicit --load-model=*"),
        (["--model-control-mode=poll"], "without --model-control-mode=explicit --load-model=*"),
        (["--model-control-mode=explicit", "--allow-grpc=false"], "over gRPC"),
        (["--model-control-mode=explicit", "--grpc-use-ssl=true"], "TLS"),
    ],
)
def test_where_they_cannot_be(arguments, words):
    assert words in read_repository_api(arguments).refusal


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a process that looks like a model's stub; this process is the server."""
    monkeypatch.setattr(os, "getppid", os.getpid)
    started = []

    def start(model, *segments, program="triton_python_backend_stub"):
        code = tmp_path / model / "1" / "model.py"
        code.parent.mkdir(parents=True, exist_ok=True)
        for file in (code, *(tmp_path / segment for segment in segments)):
            file.touch()
        started.append(
            subprocess.Popen([f"/backends/{program}", str(code), *segments, "-f"], executable=TAIL, cwd=tmp_path)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_stubs_are_told_by_their_model_and_ended(start):
    control = TritonModelControl(lambda model: True)
    first, second, other = start("edges"), start("edges"), start("edges_2")
    stranger = start("edges", program="editor")
    assert control.find_processes("edges") == {first.pid, second.pid}
    second.send_signal(signal.SIGSTOP)
    wait_until(lambda: control.find_processes("edges") == {first.pid})  # a stopped one does not count as alive
    assert control.is_process("edges", second.pid)
    control.end_processes("edges")
    assert (first.wait(5), second.wait(5)) == (-signal.SIGKILL, -signal.SIGKILL)
    assert control.find_processes("edges") == frozenset()
    assert not control.is_process("edges", first.pid)
    assert other.poll() is None
    assert stranger.poll() is None


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_servers_are_told_apart(monkeypatch):
    monkeypatch.setattr(os, "getppid", os.getpid)
    control = TritonModelControl(lambda model: True)
    assert control.server == control.server
    with subprocess.Popen([TAIL, "-f", os.devnull]) as other:
        monkeypatch.setattr(os, "getppid", lambda: other.pid)
        assert TritonModelControl(lambda model: True).server != control.server
        other.kill()
    assert "--model-control-mode" in control.refusal()


def test_segments_of_dead_stubs_are_freed(start):
    names = [f"swiftdiffusion_test_{os.getpid()}_{number}" for number in range(2)]
    paths = [SHARED_MEMORY / name for name in names]
    try:
        maps = []
        for path in paths:
            path.write_bytes(b"x" * 2**20)
            with path.open("r+b") as file:
                maps.append(mmap.mmap(file.fileno(), 0))
        start("edges", names[0])
        wait_until(lambda: paths[0] not in find_orphans(os.getpid()))
        assert paths[1] in find_orphans(os.getpid())
        with paths[1].open("rb") as file:
            free(paths[1])
            assert os.fstat(file.fileno()).st_blocks == 0
        assert not paths[1].exists()
        assert maps[1][:4] == bytes(4)  # no fault for a server that looks after all
        assert maps[0][:4] == b"xxxx"
        free(paths[1])  # twice does no harm
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
