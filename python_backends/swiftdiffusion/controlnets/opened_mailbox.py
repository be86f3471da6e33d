"""A lane's mailbox, as the ControlNet's process has it open."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from swiftdiffusion.controlnets import cuda_driver
from swiftdiffusion.controlnets.messages import Offer
from swiftdiffusion.controlnets.words import Words
from swiftdiffusion.errors import Unavailable
from swiftdiffusion.placement import Placement, name_gpu


class OpenedMailbox:
    """The other process's side."""

    def __init__(self, offer: Offer, page: int, placement: Placement) -> None:
        """Open it on the placement's GPU.

        Args:
            offer: the lane's.
            page: the file descriptor that came with it.
            placement: the ControlNet's.

        Raises:
            Unavailable: the two cannot share memory; the message says why.
        """
        self._device = placement.device
        self.near = find_owner(offer, placement) == (self._device.index or 0)  # on the lane's own GPU
        item = placement.dtype.itemsize
        self._sample_bytes = math.prod(offer.sample) * item
        self._residual_bytes = offer.residuals * item
        self._residuals_at = offer.residuals_at
        with torch.cuda.device(self._device):
            # with this GPU current: opened on the lane's, each byte would take a detour (ten times the time)
            self._pointer = cuda_driver.open_exported(bytes.fromhex(offer.handle))
            try:
                self.words = Words(page)
            except Unavailable:
                cuda_driver.close_exported(self._pointer)
                raise
        self.sample = torch.empty(offer.sample, dtype=placement.dtype, device=self._device)

    def enqueue_fetch(self) -> Tensor:
        """Copy the lane's sample here; [batch, 4, h, w] on the current device and stream."""
        stream = torch.cuda.current_stream().cuda_stream
        cuda_driver.copy(self.sample.data_ptr(), self._pointer, self._sample_bytes, stream)
        return self.sample

    def enqueue_push(self, residuals: Tensor) -> None:
        """Copy residuals [elements] to the lane's GPU; raises Unavailable for more or fewer than it takes."""
        if residuals.nbytes != self._residual_bytes:
            raise Unavailable(
                f"the ControlNet gives {residuals.nbytes} bytes of residuals where the UNet takes "
                f"{self._residual_bytes}: it was made for another base model"
            )
        stream = torch.cuda.current_stream().cuda_stream
        cuda_driver.copy(self._pointer + self._residuals_at, residuals.data_ptr(), self._residual_bytes, stream)

    def close(self) -> None:
        """Let go of it; no stream may use it any more."""
        with torch.cuda.device(self._device):
            self.words.close()
            cuda_driver.close_exported(self._pointer)


def find_owner(offer: Offer, placement: Placement) -> int:
    """The lane's GPU, as this process counts them.

    Raises:
        Unavailable: the mailbox cannot be opened on `placement`; with the reason.
    """
    if placement.device.type != "cuda":
        raise Unavailable("the ControlNet runs on the CPU")
    if offer.dtype != str(placement.dtype).removeprefix("torch."):
        raise Unavailable(f"the lane computes in {offer.dtype} and the ControlNet in {placement.dtype}")
    if not re.fullmatch(r"[0-9a-f]{128}", offer.handle):
        raise Unavailable("the lane's handle is not one of CUDA's")
    gpus = range(torch.cuda.device_count())
    owner = next((gpu for gpu in gpus if name_gpu(torch.device("cuda", gpu)) == offer.gpu), None)
    if owner is None:
        raise Unavailable("the ControlNet's process does not see the lane's GPU")
    here = placement.device.index or 0
    if owner != here and not torch.cuda.can_device_access_peer(here, owner):
        raise Unavailable(f"GPU {here} cannot reach the memory of GPU {owner}")
    return owner
