"""A request's ControlNets, from the lane's side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from swiftdiffusion.controlnets.attachment import Attachment, Subject, Terms
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.controlnets.mailbox import Form, MailboxPool
from swiftdiffusion.controlnets.resident import ResidentAttachment, ResidentControlNets
from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.denoising.controls import Control, acts_in
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.placement import name_gpu
from swiftdiffusion.request.references import Images
from swiftdiffusion.request.request import ControlUse
from swiftdiffusion.services.clients import Call


class ControlNetClient:
    """Attaches ControlNets to requests, and keeps the memory that they share with the lane.

    Those that the lane runs itself come before others of their names.
    """

    def __init__(
        self, call: Call, catalogue: Catalogue, resident: ResidentControlNets, terms: Terms, mailboxes: int
    ) -> None:
        """Args: how models are called, who serves what, the lane's own, its terms, and how many mailboxes are kept."""
        self._call, self._catalogue, self._resident, self._terms = call, catalogue, resident, terms
        self._pool = MailboxPool(mailboxes)

    def names(self, wanted: Collection[str]) -> list[str]:
        """The ControlNets that there are, sorted; of those that models serve all only where `wanted` has others."""
        own = set(self._resident.names())
        others = set(wanted) - own
        return sorted(own.union(self._catalogue.names(others)) if others else own)

    def require(self, name: str) -> None:
        """Raise Unavailable if one of `names` is not being served at the moment."""
        if name not in self._resident.names():
            self._catalogue.require(name)

    def attach(
        self,
        uses: Sequence[ControlUse],
        form: Form,
        timesteps: Tensor,
        near: bool = False,
        trace: bool = False,
    ) -> AttachedControlNets:
        """Begin attaching those that act at all.

        Args:
            uses: the request's.
            form: of what is exchanged in a step.
            timesteps: [steps], all of the request's.
            near: whether those on the branch's own GPU are preferred, where several models serve one.
            trace: whether they are to say when each step was computed.
        """
        attached, gpu = AttachedControlNets(uses), name_gpu(form.device) if near else ""
        own = self._resident.names()
        try:
            for use in uses:
                acting = [step for step in range(len(timesteps)) if acts_in(step, len(timesteps), use.start, use.end)]
                if not acting:
                    continue
                subject = Subject(timesteps[acting], form, trace)
                if use.name in own:
                    attached.add(use, self._resident.attach(use.name, subject, self._terms.service_timeout_s))
                else:
                    model = self._catalogue.locate(use.name, gpu)
                    attached.add(use, Attachment(self._call, model, use.name, subject, self._terms, self._pool))
        except BaseException:
            attached.close()
            raise
        return attached

    def close(self) -> None:
        """Free what is kept."""
        self._pool.close()
        self._resident.close()


class AttachedControlNets:
    """Those of one request, for one branch of the UNet. To be closed."""

    def __init__(self, uses: Sequence[ControlUse]) -> None:
        """Args: all that the request names, those that do not act too."""
        self._uses = uses
        self._attachments: list[tuple[ControlUse, Attachment | ResidentAttachment]] = []

    def add(self, use: ControlUse, attachment: Attachment | ResidentAttachment) -> None:
        """One more, that is on its way."""
        self._attachments.append((use, attachment))

    def prepare(self, check: Callable[[], None]) -> None:
        """Have each do what needs neither reference nor prompts; raises as `Attachment.prepare` does."""
        for _, attachment in self._attachments:
            attachment.prepare(check)

    def show(self, images: Images) -> None:
        """Give each its reference.

        Args:
            images: of every reference that the request has.

        Raises:
            InvalidArgument: one that is broken, whether its ControlNet acts or not; of those that the lane runs itself,
                and that act in the first step, that step says it.
        """
        at_once = [use for use, _ in self._attachments if not use.start]
        for use in self._uses:
            if use not in at_once:
                images[use.reference].result()
        for use, attachment in self._attachments:
            attachment.show(images[use.reference])

    def hand_over(self, conditioning: Conditioning) -> None:
        """Give each what their branch of the UNet sees; all ready themselves meanwhile."""
        for _, attachment in self._attachments:
            attachment.hand_over(conditioning)

    def wait(self, check: Callable[[], None]) -> list[Control]:
        """Each ready for the loop; raises as `Attachment.wait` does."""
        return [
            Control(use.name, attachment.wait(check), use.scale, use.start, use.end)
            for use, attachment in self._attachments
        ]

    def check(self) -> None:
        """Raise if one has failed: then nothing that was computed since is to be used."""
        for _, attachment in self._attachments:
            attachment.check()

    def models(self) -> set[str]:
        """The models that serve them."""
        return {attachment.model for _, attachment in self._attachments if attachment.model is not None}

    def describe(self) -> list[dict[str, Any]]:
        """For the response's ``info``: name, model and transport of each, and why it is not the faster one."""
        return [attachment.describe() for _, attachment in self._attachments]

    def note_spans(self, stopwatch: Stopwatch) -> None:
        """Note when each was prepared and each step computed, if that was asked for; to be called when closed."""
        for use, attachment in self._attachments:
            for span in attachment.spans:
                stopwatch.note(span["name"], f"{use.name} on {span['track']}", span["start"], span["end"])

    def close(self) -> None:
        """Let all go."""
        with ExitStack() as stack:  # each is closed, whatever happens to another
            for _, attachment in self._attachments:
                stack.callback(attachment.close)
