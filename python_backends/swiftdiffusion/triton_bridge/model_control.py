"""Unloading and loading models of the server that this process belongs to, over its own HTTP port.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from swiftdiffusion.errors import Unavailable

LOAD_S = 600.0  # for large models from cold disks
PROC = Path("/proc")
STUB = "triton_python_backend_stub"
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class RepositoryApi:
    """Where a tritonserver takes orders about its models."""

    host: str
    port: int
    headers: dict[str, str]  # without which it refuses
    refusal: str  # why it cannot be used, or nothing


def read_repository_api(arguments: Sequence[str]) -> RepositoryApi:
    """Read it off tritonserver's arguments, in any of the ways in which getopt takes them."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--model-control-mode", default="none")
    parser.add_argument("--allow-http", default="true")
    parser.add_argument("--http-address", default="0.0.0.0")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--http-restricted-api", action="append", default=[])
    options, _ = parser.parse_known_args(arguments)
    refusal = ""
    if options.model_control_mode != "explicit":
        refusal = "tritonserver was started without --model-control-mode=explicit --load-model=*"
    elif options.allow_http.lower() not in ("true", "1"):
        refusal = "tritonserver was started with --allow-http=false, and models are unloaded and loaded over HTTP"
    headers = {}
    for restriction in options.http_restricted_api:
        apis, _, key = restriction.partition(":")
        if "model-repository" in apis.split(","):
            name, _, value = key.partition("=")
            headers[name] = value
    host = EVERY_ADDRESS.get(options.http_address, options.http_address)
    return RepositoryApi(host, options.http_port, headers, refusal)


class TritonModelControl:
    """`ModelControl` for the tritonserver that started this process."""

    def __init__(self, is_ready: Callable[[str], bool]) -> None:
        """Args: whether a model is loaded."""
        self._server = os.getppid()
        self._api = read_repository_api(_read_arguments(self._server)[1:])
        self.is_ready = is_ready

    @property
    def server(self) -> str:
        """Its process and when that was started, as no other server's."""
        fields = (PROC / str(self._server) / "stat").read_text().rpartition(")")[2].split()
        return f"{self._server}-{fields[19]}"

    def refusal(self) -> str:
        """Why models cannot be unloaded and loaded here; empty where they can."""
        return self._api.refusal

    def end_processes(self, model: str) -> None:
        """Kill the stubs of a model's instances: children of the server, this user's, that run this model's code."""
        for process in _list_children(self._server):
            with contextlib.suppress(OSError):  # ended meanwhile
                handle = os.pidfd_open(process)
                try:  # the handle is of one process for ever, so what is looked at is what is killed
                    if (PROC / str(process)).stat().st_uid == os.getuid() and _is_stub_of(
                        model, _read_arguments(process)
                    ):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)

    def unload(self, model: str) -> None:
        """Begin to unload; raises Unavailable."""
        self._post(f"/v2/repository/models/{quote(model)}/unload")

    def load(self, model: str) -> None:
        """Load, and return when it is ready; raises Unavailable."""
        self._post(f"/v2/repository/models/{quote(model)}/load")

    def _post(self, path: str) -> None:
        connection = http.client.HTTPConnection(self._api.host, self._api.port, timeout=LOAD_S)
        with contextlib.closing(connection):
            try:
                connection.request("POST", path, b"{}", self._api.headers)
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(f"the server's HTTP port {self._api.port} does not answer: {error}") from None
        if answer.status != http.HTTPStatus.OK:
            raise Unavailable(f"the server answered {path} with {answer.status}: {text}")


def _list_children(parent: int) -> Iterator[int]:
    for file in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                yield int(file.parent.name)


def _read_arguments(process: int) -> list[str]:
    return (PROC / str(process) / "cmdline").read_text(errors="replace").split("\0")


def _is_stub_of(model: str, arguments: Sequence[str]) -> bool:
    # triton_python_backend_stub REPOSITORY/MODEL/VERSION/model.py …
    return len(arguments) > 1 and Path(arguments[0]).name == STUB and Path(arguments[1]).parent.parent.name == model
