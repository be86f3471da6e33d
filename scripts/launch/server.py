"""A running tritonserver: start it, wait until it is ready, stop it."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from launch.backends import assemble_backends
from launch.children import has_ended
from launch.distribution import Distribution, find_distribution
from launch.interpreter import describe_interpreter, find_library_folder
from launch.interrupts import Interrupted, check_interrupts, interrupts_held_back
from launch.paths import LOGS, MODEL_REPOSITORY, PYTHON_BACKENDS, shorten
from launch.ports import Ports
from launch.problems import LaunchError
from launch.progress import Progress
from launch.server_log import count_models, find_failures
from launch.tail import Tail

POLL_SECONDS = 0.1
ANSWER_SECONDS = 5.0
IN_FLIGHT_SECONDS = 10  # how long a stopping server waits for the requests it is working on
STOP_SECONDS = 60.0  # more than the keeper ever takes
CONTROL_HEADER = "swiftdiffusion-control"
KEEPER = Path(__file__).with_name("keeper.py")
# glibc gives threads up to eight heaps a core, each of which keeps what it ever held. Triton starts new threads with
# every model that is loaded anew: over 20 times tritonserver grew by 2.3 MB with 128 heaps and was still growing, with
# these by 0.9 MB, all of it in the first 13 (2026-11-23)
HEAPS = "4"
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class ServerSettings:
    """What to serve, and where."""

    ports: Ports
    host: str = "127.0.0.1"
    model_repositories: tuple[Path, ...] = (MODEL_REPOSITORY,)
    python_backends: Path = PYTHON_BACKENDS
    log: Path = LOGS / "tritonserver.log"
    start_seconds: float = 600.0
    stops_at_once: bool = False  # without waiting for requests in flight and for models to unload
    further_options: tuple[str, ...] = ()  # of tritonserver, after ours


class Server:
    """A tritonserver that lives as long as the `with` block.

    Entering starts it; what it prints goes to the log file. Its own keeper process stops it and clears up
    when the block ends, and also if this process dies.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.log = Tail(settings.log)
        self._keeper: subprocess.Popen | None = None
        self._control_key = secrets.token_hex(16)

    @property
    def http_url(self) -> str:
        """Host and port, as tritonclient wants them."""
        return f"{self._client_host()}:{self.settings.ports.http}"

    @property
    def grpc_url(self) -> str:
        """Host and port, as tritonclient wants them."""
        return f"{self._client_host()}:{self.settings.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus finds the metrics."""
        return f"http://{self._client_host()}:{self.settings.ports.metrics}/metrics"

    def __enter__(self) -> "Server":
        """Start the server; raises `LaunchError` if there is none to start."""
        distribution = find_distribution()
        library_folder = find_library_folder(describe_interpreter(sys.executable))
        self.settings.log.parent.mkdir(parents=True, exist_ok=True)
        self.settings.log.write_bytes(b"")
        try:
            with interrupts_held_back():  # until the keeper, which clears up, is there and known
                self._keeper = self._start_keeper(distribution, library_folder)
        except Interrupted:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server and wait until nothing of it is left."""
        self.stop()

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._keeper is not None and self._keeper.poll() is None

    def wait_until_ready(self, progress: Progress, show: Callable[[str], None] | None = None) -> None:
        """Wait until every model is loaded; raises `LaunchError` if one cannot be or it takes too long.

        Each line of the log is handed to `show`.
        """
        while not is_ready(self.http_url):
            check_interrupts()
            if not self.is_running():
                raise LaunchError(f"tritonserver did not start:\n{self.explain_failure()}")
            if progress.seconds > self.settings.start_seconds:
                raise LaunchError(
                    f"tritonserver was not ready after {self.settings.start_seconds:.0f} s: "
                    f"see {shorten(self.settings.log)}, or give it more with --start-timeout."
                )
            for line in self.log.read_new():
                if show:
                    show(line)
            loaded, loading = count_models(self.log.lines)
            if loading:
                progress.update(f"{loaded} of {loading} models loaded")
            progress.pulse()
            self.wait(POLL_SECONDS)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the server's end, at most so long; say whether it came."""
        if self._keeper is None:
            return True
        if seconds is None:
            self._keeper.wait()
            return True
        return has_ended(self._keeper, within=seconds)

    def explain_failure(self) -> str:
        """Say why it ended, from its log."""
        self.log.read_new()
        reasons = "\n".join(f"  {line}" for line in find_failures(self.log.lines))
        return f"{reasons}\n  (the whole log: {shorten(self.settings.log)})"

    def list_models(self) -> list[str]:
        """Name the models that are ready."""
        request = urllib.request.Request(
            f"http://{self.http_url}/v2/repository/index",
            data=b"{}",
            headers={CONTROL_HEADER: self._control_key},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return sorted(model["name"] for model in json.load(answer) if model.get("state") == "READY")

    def list_adapters(self) -> list[str]:
        """Name the LoRAs that requests may ask for, by the model `adapters`, which must be ready."""
        body = {
            "inputs": [{"name": "count", "shape": [1], "datatype": "INT32", "data": [0]}],
            "outputs": [{"name": "names"}],
        }
        url = f"http://{self.http_url}/v2/models/adapters/infer"
        request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)["outputs"][0]["data"]

    def stop(self) -> None:
        """Stop the server and return when all is cleared up. A second Ctrl-C does not wait for requests."""
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        with Progress("stopping tritonserver"):
            try:
                if self.settings.stops_at_once:
                    keeper.terminate()
                elif keeper.stdin:
                    keeper.stdin.close()
                keeper.wait(STOP_SECONDS)
            except BaseException:
                keeper.terminate()
                keeper.wait(STOP_SECONDS)
                raise

    def _start_keeper(self, distribution: Distribution, library_folder: Path | None) -> subprocess.Popen:
        folder = Path(tempfile.mkdtemp(prefix="swiftdiffusion-"))
        prefix = f"swiftdiffusion_{os.getpid()}_{secrets.token_hex(4)}_"
        keeper = [sys.executable, str(KEEPER), "--shared-memory", prefix]
        keeper += ["--log", str(self.settings.log), "--folder", str(folder)]
        try:
            backends = folder / "backends"
            assemble_backends(backends, distribution, self.settings.python_backends)
            return subprocess.Popen(
                [*keeper, "--", *self._make_command(distribution, backends, prefix)],
                stdin=subprocess.PIPE,
                env=_make_variables(library_folder),
                start_new_session=True,  # Ctrl-C of the terminal reaches us, and we tell the keeper
            )
        except BaseException:
            shutil.rmtree(folder)
            raise

    def _make_command(self, distribution: Distribution, backends: Path, shared_memory_prefix: str) -> list[str]:
        settings = self.settings
        command = [
            str(distribution.executable),
            f"--backend-directory={backends}",
            f"--cache-directory={distribution.caches}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
            f"--exit-timeout-secs={IN_FLIGHT_SECONDS}",
        ]
        command += [f"--model-repository={repository}" for repository in settings.model_repositories]
        for service in ("http", "grpc", "metrics"):
            command.append(f"--{service}-address={settings.host}")
            command.append(f"--{service}-port={getattr(settings.ports, service)}")
        if not any("--model-control" in option or "model-repository" in option for option in settings.further_options):
            command += self._take_control()
        return [*command, *settings.further_options]

    def _take_control(self) -> list[str]:
        """Let models load ones anew that have died, and nobody else: who may load models may load code."""
        key = f"{CONTROL_HEADER}={self._control_key}"
        return [
            "--model-control-mode=explicit",
            "--load-model=*",
            f"--http-restricted-api=model-repository:{key}",
            f"--grpc-restricted-protocol=model-repository:{key}",
        ]

    def _client_host(self) -> str:
        host = EVERY_ADDRESS.get(self.settings.host, self.settings.host)
        return f"[{host}]" if ":" in host else host


def is_ready(http_url: str) -> bool:
    """Whether the server at this host and port answers that all of its models are loaded."""
    try:
        with urllib.request.urlopen(f"http://{http_url}/v2/health/ready", timeout=ANSWER_SECONDS) as answer:
            return answer.status == 200
    except OSError:  # not listening yet, or 4xx while a model loads
        return False


def _make_variables(library_folder: Path | None) -> dict[str, str]:
    """The variables of a server: the stub of the Python backend runs the first python3 on PATH."""
    variables = dict(os.environ)
    variables.setdefault("HF_HUB_OFFLINE", "1")  # models are folders: a missing one is an error, not a download
    variables.setdefault("MALLOC_ARENA_MAX", HEAPS)
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables.get('PATH', os.defpath)}"
    if library_folder:
        variables["LD_LIBRARY_PATH"] = f"{library_folder}:{variables.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    return variables
