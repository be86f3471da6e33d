"""What lane and service say to each other over a request's lifeline while it is attached."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Offer:
    """The lane's first message: the mailbox that it offers, the words' page beside it as a file descriptor."""

    gpu: str  # its UUID
    handle: str  # CUDA's, in hexadecimal
    dtype: str  # "float16"
    sample: tuple[int, ...]  # [batch, 4, h, w], at the mailbox's start
    residuals: int  # how many
    residuals_at: int  # their place in the mailbox, in bytes


@dataclass(frozen=True)
class News:
    """The service's messages: ALIVE every `ALIVE_EVERY_S`, once READY, or FAILED, and RAN at the end if asked for."""

    state: str
    transport: str = ""  # with READY
    reason: str = ""  # with READY, why not the other; with FAILED, the error, described
    spans: Sequence[Mapping[str, Any]] = ()  # with RAN, when each step was computed, as a `Timeline` reports it
    near: bool = False  # with READY and IPC, whether it computes on the lane's own GPU

    def pack(self) -> bytes:
        """As a message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, message: bytes) -> News:
        """Undo `pack`."""
        return cls(**json.loads(message))


ALIVE, READY, FAILED, RAN = "alive", "ready", "failed", "ran"
IPC, BLS = "ipc", "bls"  # transports: CUDA memory shared between processes, or Triton's calls
TRANSPORTS = ("auto", IPC, BLS)
IMAGE, PROMPTS = b"image", b"prompts"  # the lane's second and third message, each with a file that has them
ALIVE_EVERY_S = 0.2


def pack_offer(offer: Offer | None) -> bytes:
    """As a message; without an offer only calls are possible."""
    return json.dumps(asdict(offer) if offer else None).encode()


def unpack_offer(message: bytes) -> Offer | None:
    """Undo `pack_offer`."""
    fields = json.loads(message)
    return Offer(**{**fields, "sample": tuple(fields["sample"])}) if fields else None
