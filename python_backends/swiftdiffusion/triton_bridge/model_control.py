"""Unloading and loading models of the server that this process belongs to, over its own HTTP port.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from swiftdiffusion.errors import Unavailable
from swiftdiffusion.triton_bridge.shared_memory import find_orphans, free
from swiftdiffusion.triton_bridge.stubs import PROC, STOPPED, STUB, list_children, read_arguments, read_status

LOAD_S = 600.0  # for large models from cold disks
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
        self._api = read_repository_api(read_arguments(self._server)[1:])
        self._orphans: set[Path] = set()
        self.is_ready = is_ready

    @property
    def server(self) -> str:
        """Its process and when that was started, as no other server's."""
        return f"{self._server}-{read_status(self._server)[19]}"

    def refusal(self) -> str:
        """Why models cannot be unloaded and loaded here; empty where they can."""
        return self._api.refusal

    def is_process(self, model: str, process: int) -> bool:
        """Whether it is a stub of the model: a process of this user that runs the model's code."""
        try:  # triton_python_backend_stub REPOSITORY/MODEL/VERSION/model.py SEGMENT …; nothing of one that has ended
            program, code, *_ = read_arguments(process)
            return (
                Path(program).name == STUB
                and Path(code).parent.parent.name == model
                and (PROC / str(process)).stat().st_uid == os.getuid()
            )
        except (OSError, ValueError):
            return False

    def find_processes(self, model: str) -> frozenset[int]:
        """The stubs of the model's instances that are alive and not stopped."""
        return frozenset(
            process
            for process in list_children(self._server)
            if self.is_process(model, process) and read_status(process)[0] not in STOPPED
        )

    def end_processes(self, model: str) -> None:
        """Kill the stubs of the model's instances."""
        for process in list_children(self._server):
            with contextlib.suppress(OSError):  # ended meanwhile
                handle = os.pidfd_open(process)
                try:  # the handle is of one process for ever, so what is looked at is what is killed
                    if self.is_process(model, process):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)

    def clean_up(self) -> None:
        """Remove the shared memory of stubs that died, which the server keeps."""
        for segment in self._orphans & find_orphans(self._server):  # still: a segment is there before its stub
            free(segment)

    def unload(self, model: str) -> None:
        """Begin to unload; raises Unavailable."""
        self._orphans = find_orphans(self._server)
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
