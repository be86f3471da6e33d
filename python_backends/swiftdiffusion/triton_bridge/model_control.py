"""Unloading and loading models of the server that this process belongs to, over its own gRPC port.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md

The other ways of tritonserver 2.51 do harm: a load over HTTP holds up every connection of its clients until it is done,
and the Python backend's ``unload_model`` and ``load_model`` hold up the whole process that calls them, a lane, and end
the server now and then where they fail.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from swiftdiffusion.errors import Unavailable
from swiftdiffusion.triton_bridge.shared_memory import find_orphans, free
from swiftdiffusion.triton_bridge.stubs import PROC, STOPPED, STUB, list_children, read_arguments, read_status

END_S = 5.0  # a process that was killed has ended by then, unless the kernel holds it
LOAD_S = 600.0  # for large models from cold disks
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
HEADER_PREFIX = "triton-grpc-protocol-"  # tritonserver's, before a restricted protocol's key


@dataclass(frozen=True)
class RepositoryApi:
    """Where a tritonserver takes orders about its models."""

    url: str
    headers: dict[str, str]  # without which it refuses
    refusal: str  # why it takes none, or nothing


def read_repository_api(arguments: Sequence[str]) -> RepositoryApi:
    """Read it off tritonserver's arguments, in any of the ways in which getopt takes them."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model-control-mode", default="none")
    parser.add_argument("--allow-grpc", default="true")
    parser.add_argument("--grpc-use-ssl", default="false")
    parser.add_argument("--grpc-address", default="0.0.0.0")
    parser.add_argument("--grpc-port", default="8001")
    parser.add_argument("--grpc-restricted-protocol", action="append", default=[])
    options, _ = parser.parse_known_args(arguments)
    refusal = ""
    if options.model_control_mode != "explicit":
        refusal = "tritonserver was started without --model-control-mode=explicit --load-model=*"
    elif options.allow_grpc.lower() not in ("true", "1") or options.grpc_use_ssl.lower() in ("true", "1"):
        refusal = "models are loaded anew over gRPC, and tritonserver was started without it or with TLS for it"
    headers = {}
    for restriction in options.grpc_restricted_protocol:
        protocols, _, pair = restriction.partition(":")
        if "model-repository" in protocols.split(","):
            key, _, value = pair.partition("=")
            headers[f"{HEADER_PREFIX}{key}"] = value
    host = EVERY_ADDRESS.get(options.grpc_address, options.grpc_address)
    host = f"[{host}]" if ":" in host else host
    return RepositoryApi(f"{host}:{options.grpc_port}", headers, refusal)


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
        alive = set()
        for process in list_children(self._server):
            with contextlib.suppress(OSError):  # ended meanwhile
                if self.is_process(model, process) and read_status(process)[0] not in STOPPED:
                    alive.add(process)
        return frozenset(alive)

    def end_processes(self, model: str) -> None:
        """Kill the stubs of the model's instances, and wait until they have ended."""
        for process in list_children(self._server):
            with contextlib.suppress(OSError):  # ended meanwhile
                handle = os.pidfd_open(process)
                try:  # the handle is of one process for ever, so what is looked at is what is killed
                    if self.is_process(model, process):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                        select.select([handle], [], [], END_S)
                finally:
                    os.close(handle)

    def clean_up(self) -> None:
        """Remove the shared memory of stubs that died, which the server keeps."""
        for segment in self._orphans & find_orphans(self._server):  # still: a segment is there before its stub
            free(segment)

    def unload(self, model: str) -> None:
        """Begin to unload; raises Unavailable."""
        self._orphans = find_orphans(self._server)
        with self._connect() as client:
            client.unload_model(model, headers=self._api.headers, client_timeout=LOAD_S)

    def load(self, model: str) -> None:
        """Load, and return when it is ready; raises Unavailable."""
        with self._connect() as client:
            client.load_model(model, headers=self._api.headers, client_timeout=LOAD_S)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[triton.InferenceServerClient]:
        try:
            with triton.InferenceServerClient(self._api.url) as client:
                yield client
        except InferenceServerException as error:
            raise Unavailable(f"the server says {error.message()}") from None
