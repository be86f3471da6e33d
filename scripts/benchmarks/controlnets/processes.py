"""The processes of a server that this process has started, as Linux lists them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from swiftdiffusion.triton_bridge.stubs import PROC, STUB, read_arguments, read_status


def find_stubs(ancestor: int, model: str) -> list[int]:
    """The processes below `ancestor` in which Triton's Python backend runs the instances of a model."""
    return [process for process in find_descendants(ancestor) if _is_stub_of(model, process)]


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


def read_memory(process: int) -> int:
    """Bytes that are the process's own (anonymous pages); 0 if it is gone."""
    with suppress(OSError):
        for line in (PROC / str(process) / "status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def _is_stub_of(model: str, process: int) -> bool:
    # triton_python_backend_stub …/MODEL/VERSION/model.py …; nothing of one that has ended
    with suppress(OSError, ValueError):
        program, code, *_ = read_arguments(process)
        return Path(program).name == STUB and Path(code).parent.parent.name == model
    return False


def _list_parents() -> Iterator[tuple[int, int]]:
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            yield int(folder.name), int(read_status(int(folder.name))[1])
