"""What joins a model to the one that it called, beside the call: progress comes back, and the wish to stop goes out.

Triton passes no cancellation on to the models that a model calls, and calling a streaming model from another one
crashes the Python backend's process under Python 3.12 (tritonserver 2.51: it makes Python objects without holding
the interpreter's lock). So the called model answers once, and what happens meanwhile goes over a lifeline: a socket in
Linux's abstract namespace, which has no file to leave behind. While the caller holds it the work goes on; closing it,
or the caller's death, ends the work at the next look.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import select
import socket
import time
from collections.abc import Callable, Sequence

from swiftdiffusion.errors import Cancelled, InvalidArgument, shorten

PARAMETER = "lifeline"
MESSAGE_BYTES_MAX = 128 * 1024  # below what Linux lets a socket hold by default
FILES_MAX = 4  # of one message
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Lifeline:
    """The caller's end."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(_address(self.token))
        self._listener.listen(1)
        self._connection: socket.socket | None = None

    def receive(self, timeout_s: float) -> bytes | None:
        """The next message, or None: nothing came within `timeout_s`, or the other end has let go."""
        source = self._connection or self._listener
        if not select.select([source], [], [], timeout_s)[0]:
            return None
        if self._connection is None:
            self.is_taken(0)
            return self.receive(timeout_s)
        with contextlib.suppress(ConnectionResetError):  # said once if it left messages unread; its own are still there
            return self._connection.recv(MESSAGE_BYTES_MAX) or None
        return self._connection.recv(MESSAGE_BYTES_MAX) or None

    def is_taken(self, timeout_s: float) -> bool:
        """Whether the other end is there, or comes within `timeout_s`."""
        if self._connection is None and select.select([self._listener], [], [], timeout_s)[0]:
            self._connection, _ = self._listener.accept()
        return self._connection is not None

    def hand_over(self, message: bytes, files: Sequence[int] = ()) -> None:
        """Send a message with open files to the other end, which is there; one that left does not get it."""
        assert self._connection is not None
        with contextlib.suppress(OSError):
            socket.send_fds(self._connection, [message], list(files))

    def is_let_go(self) -> bool:
        """Whether the other end was there and has ended; messages still to be read make no difference."""
        return self._connection is not None and _is_ended(self._connection, 0)

    def end(self, timeout_s: float, read: Callable[[bytes], None] = lambda message: None) -> bool:
        """Tell the other end to stop, and wait until it has; returns whether it did within `timeout_s`.

        What it still sends is given to `read`.
        """
        if self._connection is None:
            return True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0 and (message := self.receive(left)):
            read(message)
        return self.is_let_go()

    def cut(self) -> None:
        """Tell the other end to stop; more than once does no harm."""
        self._listener.close()
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Lifeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()


class Holder:
    """The called model's end."""

    def __init__(self, token: str, source: str = f"parameter {PARAMETER}") -> None:
        """Take hold.

        Args:
            token: the lifeline's.
            source: what gave the token.

        Raises:
            InvalidArgument: a token that no `Lifeline` made.
        """
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):  # a client's parameter may be a number
            raise InvalidArgument(f"{source} is {shorten(str(token))}; 32 hexadecimal digits are allowed")
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        try:
            self._socket.connect(_address(token))
        except OSError:
            self.close()

    def send(self, message: bytes, timeout_s: float = 0) -> None:
        """Send a message; one for which the caller makes no room within `timeout_s`, or is gone, is dropped."""
        if self._socket is not None and len(message) <= MESSAGE_BYTES_MAX:
            with contextlib.suppress(OSError):
                if timeout_s:
                    select.select([], [self._socket], [], timeout_s)
                self._socket.send(message)

    def take_over(self) -> tuple[bytes, list[int]]:
        """The caller's next message, whenever it comes, and its files, which are the taker's to close.

        Raises:
            Cancelled: the caller has let go, or never was there.
        """
        if self._socket is not None:
            select.select([self._socket], [], [])
            with contextlib.suppress(OSError):
                message, files, *_ = socket.recv_fds(self._socket, MESSAGE_BYTES_MAX, FILES_MAX)
                if message:
                    return message, files
        raise Cancelled

    def is_cut(self, timeout_s: float = 0) -> bool:
        """Whether the caller has let go (or never was there), or does so within `timeout_s`."""
        return self._socket is None or _is_ended(self._socket, timeout_s)

    def close(self) -> None:
        """Let go of this end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_ended(connection: socket.socket, timeout_s: float) -> bool:
    """Whether the other end has let go, or does so within `timeout_s`, whatever there may be to read."""
    ends = select.poll()
    ends.register(connection, select.POLLRDHUP)
    return bool(ends.poll(1000 * timeout_s))


def _address(token: str) -> str:
    return f"\0swiftdiffusion-lifeline-{token}"
