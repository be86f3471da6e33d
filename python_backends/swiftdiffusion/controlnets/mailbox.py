"""A lane's place for what it exchanges with one ControlNet: GPU memory that another process opens, and two counters."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from swiftdiffusion.controlnets import cuda_driver
from swiftdiffusion.controlnets.messages import Offer
from swiftdiffusion.controlnets.words import Word, Words, create_page
from swiftdiffusion.placement import name_gpu

ALIGNMENT = 512  # bytes


@dataclass(frozen=True)
class Form:
    """What a mailbox holds."""

    device: torch.device
    dtype: torch.dtype
    sample: tuple[int, ...]  # [batch, 4, h, w]
    residuals: int  # all of a step's, see `Encoder.residual_shapes`


class Mailbox:
    """The owner's side. Not to be filled anew before the process that opened it has let go."""

    def __init__(self, form: Form) -> None:
        self.form = form
        item = form.dtype.itemsize
        self._residuals_at = -(-math.prod(form.sample) * item // ALIGNMENT) * ALIGNMENT
        size = self._residuals_at + form.residuals * item
        with torch.cuda.device(form.device):
            self._pointer = cuda_driver.allocate(size)
            self._page = create_page()
            self.words = Words(self._page)
        whole = torch.as_tensor(_Memory(self._pointer, size), device=form.device)
        sample, residuals = whole[: math.prod(form.sample) * item], whole[self._residuals_at :]
        self.sample: Tensor = sample.view(form.dtype).view(form.sample)
        self.residuals: Tensor = residuals.view(form.dtype)

    def offer(self) -> tuple[Offer, int]:
        """What another process needs to open it: a description, and the file descriptor of the words' page."""
        for word in Word:
            self.words.write(word, 0)
        form = self.form
        return Offer(
            gpu=name_gpu(form.device),
            handle=cuda_driver.export(self._pointer).hex(),
            dtype=str(form.dtype).removeprefix("torch."),
            sample=form.sample,
            residuals=form.residuals,
            residuals_at=self._residuals_at,
        ), self._page

    def close(self) -> None:
        """Free everything, once the GPU is done with it."""
        del self.sample, self.residuals
        with torch.cuda.device(self.form.device):
            torch.cuda.synchronize()
            self.words.close()
            os.close(self._page)
            cuda_driver.free(self._pointer)


class MailboxPool:
    """The mailboxes of a lane that are free, so that a request need not wait for memory."""

    def __init__(self, most: int) -> None:
        """Args: how many free ones are kept; the oldest are closed."""
        self._most = most
        self._free: list[Mailbox] = []

    def take(self, form: Form) -> Mailbox:
        """A mailbox of this form."""
        for mailbox in self._free:
            if mailbox.form == form:
                self._free.remove(mailbox)
                return mailbox
        return Mailbox(form)

    def put(self, mailbox: Mailbox) -> None:
        """Take back one that no other process has open."""
        self._free.append(mailbox)
        while len(self._free) > self._most:
            self._free.pop(0).close()

    def close(self) -> None:
        """Free all of them."""
        while self._free:
            self._free.pop().close()


class _Memory:
    """Device memory as torch takes it without copying: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html"""

    def __init__(self, pointer: int, size: int) -> None:
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (pointer, False), "version": 3}
