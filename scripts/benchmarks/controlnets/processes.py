"""The processes of a server that this process has started, as Linux lists them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from swiftdiffusion.triton_bridge.stubs import PROC, STUB, read_arguments, read_status

SERVER = "tritonserver"


def find_stubs(ancestor: int, model: str) -> list[int]:
    """The processes below `ancestor` in which Triton's Python backend runs the instances of a model."""
    return [process for process in find_descendants(ancestor) if read_model(process) == model]


def find_descendants(ancestor: int) -> list[int]:
    """All processes below `ancestor`, however deep."""
    children: dict[int, list[int]] = {}
    for process, parent in _list_parents():
        children.setdefault(parent, []).append(process)
    found: list[int] = []
    waiting = [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def read_model(process: int) -> str:
    """The model that the process runs as a stub of Triton's Python backend; empty if it is none, or has ended."""
    # triton_python_backend_stub …/MODEL/VERSION/model.py …
    with suppress(OSError, ValueError):
        program, code, *_ = read_arguments(process)
        if Path(program).name == STUB:
            return Path(code).parent.parent.name
    return ""


def is_server(process: int) -> bool:
    """Whether it is a tritonserver."""
    with suppress(OSError, ValueError):
        program, *_ = read_arguments(process)
        return Path(program).name == SERVER
    return False


def read_held(process: int) -> tuple[int, int]:
    """Bytes that are the process's own, and its threads; 0 and 0 if it is gone.

    Its own are its anonymous pages; where the kernel does not tell them (gVisor's), all that are resident.
    """
    fields: dict[str, int] = {}
    with suppress(OSError):
        for line in (PROC / str(process) / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "VmRSS", "Threads"):
                fields[name] = int(value.split()[0])
    return 1024 * fields.get("RssAnon", fields.get("VmRSS", 0)), fields.get("Threads", 0)


def _list_parents() -> Iterator[tuple[int, int]]:
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            yield int(folder.name), int(read_status(int(folder.name))[1])
