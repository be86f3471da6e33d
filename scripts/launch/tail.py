"""Reading a file while another process writes it."""

from pathlib import Path


class Tail:
    """Gives each line of a growing file once, from the byte `start` on."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._path = path
        self._position = start
        self.lines: list[str] = []  # all that were read

    def read_new(self) -> list[str]:
        """Give the lines completed since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            completed, newline, _ = file.read().rpartition(b"\n")
        self._position += len(completed) + len(newline)
        new = completed.decode(errors="replace").split("\n") if newline else []
        self.lines += new
        return new
