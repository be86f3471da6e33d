"""Attaching a ControlNet to a request: one call, an offer of memory, and a link for the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.controlnets.bls_link import BlsLink, CallStep
from swiftdiffusion.controlnets.ipc_link import IpcLink
from swiftdiffusion.controlnets.mailbox import Form, Mailbox, MailboxPool
from swiftdiffusion.controlnets.messages import BLS, IMAGE, IPC, PROMPTS, RAN, READY, TRANSPORTS, News, pack_offer
from swiftdiffusion.controlnets.pulse import Pulse
from swiftdiffusion.controlnets.tensor_file import written
from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.errors import InvalidArgument, Lost, SwiftDiffusionError, Unavailable
from swiftdiffusion.lifeline import Lifeline
from swiftdiffusion.services.clients import Call, to_array
from swiftdiffusion.services.contracts import CONTROLNET

LISTEN_S = 0.02
LET_GO_S = 0.5  # how long a ControlNet that is well takes at most to finish what is under way


@dataclass(frozen=True)
class Terms:
    """How a lane deals with ControlNets."""

    transport: str = "auto"  # one of TRANSPORTS; auto shares GPU memory where both sides can
    timeout_s: float = 2.0  # silence of a ControlNet's process, or a pushed step's delay, that counts as its death
    service_timeout_s: float = 120.0  # how long one may take to load, or for a step by a call
    # Whether the UNet's encoder half runs after a ControlNet that shares memory with it on its own GPU. Beside that one
    # it would gain nothing: two processes get a GPU by turns, and each change takes time.
    near_first: bool = True

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise InvalidArgument(
                f"parameter 'controlnet_transport' is {self.transport!r}; allowed: {', '.join(TRANSPORTS)}"
            )


@dataclass(frozen=True)
class Subject:
    """What a ControlNet is attached for."""

    timesteps: Tensor  # [steps], of those in which it acts
    form: Form  # of what is exchanged
    trace: bool = False  # whether it is to say when each step was computed


class Attachment:
    """One ControlNet on its way to a request, or attached to it. `close` it, whatever happened."""

    def __init__(self, call: Call, model: str, name: str, subject: Subject, terms: Terms, pool: MailboxPool) -> None:
        """Begin attaching, for which nothing needs to be decoded or encoded yet; the caller goes on meanwhile.

        Args:
            call: how models are called.
            model: the Triton model that serves it.
            name: the ControlNet's.
            subject: the request's.
            terms: the lane's.
            pool: where mailboxes come from.
        """
        self.name, self.model = name, model
        self._reason = ""
        self._call, self._terms, self._pool = call, terms, pool
        self._form = subject.form
        self._mailbox: Mailbox | None = None
        self._link: IpcLink | BlsLink | None = None
        self.spans: Sequence[Mapping[str, Any]] = ()  # once it is closed, if they were asked for
        self._lifeline = Lifeline()
        self._answer = call(
            model,
            CONTROLNET,
            {
                "session": np.array([self._lifeline.token.encode()], dtype=np.object_),
                "controlnet": np.array([name.encode()], dtype=np.object_),
                "timesteps": to_array(subject.timesteps),
                "trace": np.array([subject.trace]),
            },
        )

    def describe(self) -> dict[str, Any]:
        """Name, model, transport, whether the UNet waits for it first, and why memory is not shared; fit for JSON."""
        transport = self._link.transport if self._link else ""
        goes_first = self._link is not None and self._link.goes_first
        reason = {"reason": self._reason} if self._reason else {}
        return {"name": self.name, "model": self.model, "transport": transport, "goes_first": goes_first, **reason}

    def prepare(self, check: Callable[[], None]) -> None:
        """Offer the memory to share, if any, for the ControlNet to open it while the caller goes on.

        Args:
            check: raises when the request is no longer wanted.

        Raises:
            Unavailable: it does not answer.
            SwiftDiffusionError: its own refusal.
        """
        self._await_taker(check)
        if self._terms.transport != BLS and self._form.device.type == "cuda":
            self._mailbox = self._pool.take(self._form)
            offer, page = self._mailbox.offer()
            self._lifeline.hand_over(pack_offer(offer), [page])
        else:
            self._lifeline.hand_over(pack_offer(None))

    def show(self, image: Future[NDArray[np.uint8]]) -> None:
        """Give the reference [height, width, 3], after `prepare`; raises InvalidArgument where it is broken."""
        with written({"image": torch.from_numpy(image.result())}) as file:
            self._lifeline.hand_over(IMAGE, [file])

    def hand_over(self, conditioning: Conditioning) -> None:
        """Give what its branch of the UNet sees, after `show`; it readies itself while the caller goes on."""
        with written(vars(conditioning)) as file:
            self._lifeline.hand_over(PROMPTS, [file])
        self._pulse = Pulse(self._lifeline, self.name, self._terms.timeout_s)

    def wait(self, check: Callable[[], None]) -> IpcLink | BlsLink:
        """The link, once the ControlNet that was given all is ready.

        Args:
            check: raises when the request is no longer wanted.

        Raises:
            Unavailable: it is dead, or cannot share memory where the terms want nothing else.
            SwiftDiffusionError: its own refusal.
        """
        news = self._wait_until_ready(check)
        if news.transport == IPC and self._mailbox is not None:
            goes_first = news.near and self._terms.near_first
            self._link = IpcLink(self._mailbox, self._pulse, self.name, self._terms.timeout_s, goes_first)
        elif self._terms.transport == IPC:
            raise Unavailable(
                f"ControlNet {self.name!r} cannot share memory with the lane, and parameter 'controlnet_transport' "
                f"is {IPC!r}: {news.reason}"
            )
        else:
            self._reason = news.reason
            call_step = _call_steps(self._call, self.model, self.name, self._lifeline.token)
            self._link = BlsLink(call_step, self._pulse, self.name, self._terms.service_timeout_s)
        return self._link

    def check(self) -> None:
        """Raise `Unavailable` if it has failed since."""
        if self._link is not None:
            self._link.check()

    def close(self) -> None:
        """Let the ControlNet go, and wait until it has; a mailbox that it may still write to is not used again."""
        if self._link is not None:
            self._link.close()
        ended = self._lifeline.end(0 if self._has_failed() else LET_GO_S, self._read_last)
        self._lifeline.cut()
        if self._mailbox is not None:
            (self._pool.put if ended else Mailbox.close)(self._mailbox)

    def _has_failed(self) -> bool:
        try:
            self.check()
        except SwiftDiffusionError:
            return True
        return False

    def _read_last(self, message: bytes) -> None:
        news = News.unpack(message)
        if news.state == RAN:
            self.spans = news.spans

    def _await_taker(self, check: Callable[[], None]) -> None:
        deadline = time.monotonic() + self._terms.timeout_s
        while not self._lifeline.is_taken(LISTEN_S):
            check()
            if self._answer.done():
                _read(self._answer, self.name)  # a refusal, mostly
            if time.monotonic() > deadline:
                raise Unavailable(f"ControlNet {self.name!r} did not answer within {self._terms.timeout_s:g} s")

    def _wait_until_ready(self, check: Callable[[], None]) -> News:
        deadline = time.monotonic() + self._terms.service_timeout_s
        while time.monotonic() < deadline:
            check()
            news = self._pulse.listen(LISTEN_S)
            if news and news.state == READY:
                return news
        raise Unavailable(f"ControlNet {self.name!r} was not ready within {self._terms.service_timeout_s:g} s")


def _read(answer: Future[dict[str, NDArray[Any]]], name: str) -> dict[str, NDArray[Any]]:
    """What the model answered; raises what it raised, and says which ControlNet died."""
    try:
        return answer.result()
    except Lost as error:
        raise Lost(f"ControlNet {name!r} is lost: {error}") from None


def _call_steps(call: Call, model: str, name: str, token: str) -> CallStep:
    """What sends the steps of the request with this token off.

    It knows no `Attachment`, which knows the link that has this: in a circle they would keep a request's tensors and
    sockets until Python looks for circles, which takes a hundred requests.
    """
    session = np.array([token.encode()], dtype=np.object_)

    def call_step(sample: Tensor, timestep: Tensor) -> Future[NDArray[np.float32]]:
        residuals: Future[NDArray[np.float32]] = Future()

        def deliver(done: Future[dict[str, NDArray[Any]]]) -> None:
            try:
                residuals.set_result(_read(done, name)["residuals"])
            except BaseException as error:
                residuals.set_exception(error)

        step = {"session": session, "sample": to_array(sample), "timestep": to_array(timestep.reshape(1))}
        call(model, CONTROLNET, step).add_done_callback(deliver)
        return residuals

    return call_step
