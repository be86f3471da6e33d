"""The service's side of one attached request."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.controlnets.loaded import LoadedControlNet
from swiftdiffusion.controlnets.messages import (
    ALIVE,
    ALIVE_EVERY_S,
    BLS,
    FAILED,
    IPC,
    RAN,
    READY,
    News,
    Offer,
    unpack_offer,
)
from swiftdiffusion.controlnets.opened_mailbox import OpenedMailbox
from swiftdiffusion.controlnets.pushing import push_steps
from swiftdiffusion.controlnets.tensor_file import read
from swiftdiffusion.daemon_threads import repeated
from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.denoising.timeline import Timeline
from swiftdiffusion.engines.session import Session
from swiftdiffusion.errors import Cancelled, InvalidArgument, Unavailable, describe
from swiftdiffusion.lifeline import Holder
from swiftdiffusion.placement import Placement

ROOM_S = 120.0  # signs of life may fill the socket while the lane waits for another ControlNet

# lends the ControlNet; calls its argument from time to time while that takes
Lend = Callable[[Callable[[], None]], AbstractContextManager[LoadedControlNet]]


@dataclass(frozen=True)
class Attached:
    """What stays the same for a request, and is known when it is attached."""

    timesteps: NDArray[np.float32]  # [steps], of those in which the ControlNet acts
    trace: bool = False  # whether the lane wants to know when each step was computed


class ControlNetSession:
    """A ControlNet at work for one request, on a thread and a stream of its own, until the lane lets go.

    The lane is told over the lifeline that this process lives, and once that it is ready, with which transport and
    whether on the lane's own GPU.
    """

    def __init__(self, holder: Holder, attached: Attached, lend: Lend, placement: Placement) -> None:
        """Begin. Args: the lifeline's, closed in the end; the request, where the engine comes from, where it runs."""
        self._holder, self._attached, self._lend, self._placement = holder, attached, lend, placement
        self._session: Session | None = None
        self._sample: tuple[int, ...] = ()  # its samples' shape
        self._stream: torch.cuda.Stream | None = None
        self._stepping = threading.Lock()
        self._timeline = Timeline() if attached.trace else None
        self._thread = threading.Thread(target=self._run, name="controlnet-session", daemon=True)

    def start(self, ended: Callable[[], None]) -> None:
        """Begin; `ended` is called at the very end."""
        self._ended = ended
        self._thread.start()

    def step(self, sample: NDArray[np.float32], timestep: NDArray[np.float32]) -> NDArray[np.float32]:
        """One step of the transport by calls: residuals [elements] for a sample [batch, 4, h, w] and a timestep [1].

        Raises:
            Unavailable: the lane has let go, or never got as far.
            InvalidArgument: a sample of another size than the reference's, or for other prompts.
        """
        with self._stepping:
            if self._session is None:
                raise Unavailable("the request is not attached to the ControlNet any more")
            if sample.shape != self._sample:
                raise InvalidArgument(f"sample has shape {list(sample.shape)}; allowed: {list(self._sample)}")
            with self._here():  # what is placed, too: the stream waits for no other
                placed = self._place(sample).to(self._placement.dtype)  # converted there
                return self._session.step(placed, self._place(timestep)[0]).float().cpu().numpy()

    def _run(self) -> None:
        try:
            with self._holder as holder, self._here():
                try:
                    self._serve(holder)
                except Cancelled:
                    pass
                except Exception as error:
                    logging.getLogger("swiftdiffusion").error("a ControlNet's session failed", exc_info=error)
                    holder.send(News(FAILED, reason=describe(error)).pack(), ROOM_S)
        finally:
            self._ended()

    def _serve(self, holder: Holder) -> None:
        def check() -> None:
            if holder.is_cut():
                raise Cancelled

        with ExitStack() as stack:
            message, pages = self._take_over(holder, stack)
            # the lane is told from time to time that this process lives, whatever this thread is at
            stack.enter_context(repeated(lambda: holder.send(News(ALIVE).pack()), ALIVE_EVERY_S, "signs-of-life"))
            mailbox, reason = self._open_mailbox(unpack_offer(message), pages)
            if mailbox is not None:
                stack.callback(mailbox.close)
            controlnet = stack.enter_context(self._lend(check))
            image = self._read_next(holder, stack)["image"]
            prompts = Conditioning(**self._read_next(holder, stack))  # when they are encoded
            timesteps = self._place(self._attached.timesteps)
            session = controlnet.open(timesteps[0], prompts, image, self._timeline)
            stack.callback(session.close)
            if mailbox is None:
                stack.callback(self._let_go)
                self._sample = controlnet.shape_sample(prompts.batch, *image.shape[:2])
                self._session = session
                holder.send(News(READY, BLS, reason).pack(), ROOM_S)
                while not holder.is_cut(1):
                    pass
            else:
                holder.send(News(READY, IPC, near=mailbox.near).pack(), ROOM_S)
                push_steps(mailbox, session, timesteps, holder.is_cut)
        if self._timeline is not None:
            holder.send(News(RAN, spans=self._timeline.report()).pack())

    def _take_over(self, holder: Holder, stack: ExitStack) -> tuple[bytes, list[int]]:
        """The lane's next message and its files, which `stack` closes."""
        message, files = holder.take_over()
        for file in files:
            stack.callback(os.close, file)
        return message, files

    def _read_next(self, holder: Holder, stack: ExitStack) -> dict[str, Tensor]:
        _, (file,) = self._take_over(holder, stack)
        return read(file, self._placement)

    def _open_mailbox(self, offer: Offer | None, pages: list[int]) -> tuple[OpenedMailbox | None, str]:
        if offer is None or not pages:
            return None, "the lane offers no memory"
        try:
            return OpenedMailbox(offer, pages[0], self._placement), ""
        except Unavailable as error:
            _warn_once(str(error))
            return None, str(error)

    def _let_go(self) -> None:
        with self._stepping:  # of a step under way
            self._session = None

    def _place(self, array: NDArray[np.float32]) -> Tensor:
        """On the device, by the current stream; in fp32, as half a number type would move a timestep."""
        return torch.tensor(array, device=self._placement.device)

    @contextlib.contextmanager
    def _here(self) -> Iterator[None]:
        """On the ControlNet's device, and this session's stream of it."""
        if self._placement.device.type != "cuda":
            yield
            return
        with torch.cuda.device(self._placement.device):
            if self._stream is None:
                self._stream = torch.cuda.Stream()
            with torch.cuda.stream(self._stream):
                yield


@lru_cache(maxsize=8)
def _warn_once(reason: str) -> None:
    """Tell whoever runs the server; each request's `info` has it, too."""
    logging.getLogger("swiftdiffusion").warning("steps go by Triton's calls, which take longer: %s", reason)
