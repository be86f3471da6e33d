"""Where in a kernel something was done."""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True)
class Position:
    """A line of a kernel's source."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.function}, line {self.line}: {linecache.getline(self.file, self.line).strip()}"


def find_position() -> Position:
    """The line that is being executed, of the innermost function that is not the interpreter's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    assert frame is not None
    return Position(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
