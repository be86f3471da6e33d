"""How a model that called another tells it that nobody waits for the answer any more.

Triton does not pass a cancellation on to BLS children. A lifeline is a listening socket in Linux's abstract
namespace, which has no file to leave behind: while the caller holds it open the work goes on. Closing it, or the
caller's death, ends the work at the next look.
"""

from __future__ import annotations

import re
import secrets
import socket

from swiftdiffusion.errors import InvalidArgument

PARAMETER = "lifeline"
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Lifeline:
    """The caller's end."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(_address(self.token))
        self._socket.listen(1)

    def cut(self) -> None:
        """Tell the other end to stop; more than once does no harm."""
        self._socket.close()

    def __enter__(self) -> Lifeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()


class Holder:
    """The called model's end."""

    def __init__(self, token: str) -> None:
        """Raises: InvalidArgument: a token that no `Lifeline` made."""
        if not _TOKEN.fullmatch(token):
            raise InvalidArgument(f"parameter {PARAMETER} is {token[:40]!r}; 32 hexadecimal digits are allowed")
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(_address(token))
        except OSError:
            self.close()

    def is_cut(self) -> bool:
        """Whether the caller has let go (or never was there)."""
        if self._socket is None:
            return True
        try:
            return self._socket.recv(1) == b""
        except BlockingIOError:  # nothing to read: the caller is there
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Let go of this end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(token: str) -> str:
    return f"\0swiftdiffusion-lifeline-{token}"
