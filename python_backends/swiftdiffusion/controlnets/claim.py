"""What one process at a time may do, among all processes of a machine.

A claim is a name in Linux's abstract socket namespace: it leaves no file behind, and the end of its process ends it.
"""

from __future__ import annotations

import hashlib
import socket


class Claim:
    """Held for the length of a `with` block, unless another holds it."""

    def __init__(self, name: str) -> None:
        self.held = False
        self._address = _address(name)

    def announce(self) -> None:
        """Let `is_announced` see it."""
        self._socket.listen()

    def __enter__(self) -> Claim:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.bind(self._address)
            self.held = True
        except OSError:
            self.held = False
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def is_announced(name: str) -> bool:
    """Whether somebody holds a claim to the name and has announced it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as visitor:
        visitor.setblocking(False)
        try:
            visitor.connect(_address(name))
        except BlockingIOError:  # so many have looked that the queue is full
            return True
        except OSError:
            return False
        return True


def _address(name: str) -> str:
    return f"\0swiftdiffusion-{hashlib.sha256(name.encode()).hexdigest()}"  # an address has at most 107 bytes
