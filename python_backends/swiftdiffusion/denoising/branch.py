"""The UNet on one device, with the part of the guidance batch that it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.denoising.controls import Control, start_controls, sum_residuals, wait_for_first
from swiftdiffusion.denoising.stopwatch import Stopwatch


@dataclass(frozen=True)
class UNet:
    """Both halves on one device."""

    encoder: Callable[..., tuple[Tensor, ...]]  # `UNetEncoder`
    decoder: Callable[..., Tensor]  # `UNetDecoder`


@dataclass(frozen=True)
class Encoded:
    """What the decoder half goes on from."""

    mid: Tensor
    embedding: Tensor
    skips: list[Tensor]
    acting: list[Control]  # ControlNets whose residuals are there or on their way


@dataclass(frozen=True)
class Branch:
    """Predicts some rows of the guidance batch: all of them, or one on each of a lane's GPUs.

    Splitting guidance so is the latent parallelism of SwiftDiffusion (arXiv 2407.02031, section 4.3).
    """

    unet: UNet
    conditioning: Conditioning
    controls: Sequence[Control]
    rows: slice | None = None  # of the guidance batch; None for all

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.conditioning.prompt_embeds.device

    def encode(self, sample: Tensor, timestep: Tensor, step: int, steps: int, stopwatch: Stopwatch) -> Encoded:
        """Start the ControlNets and the encoder half on this branch's rows of sample [batch, 4, h, w].

        The encoder half runs beside the ControlNets, but after those that go first. Raises `Unavailable` where one of
        them is known not to answer.
        """
        if self.rows is not None:
            sample = sample[self.rows].to(self.device, non_blocking=True)
        timestep = timestep.to(self.device, non_blocking=True)
        acting = start_controls(self.controls, sample, timestep, step, steps)
        with stopwatch("controlnet_wait"):
            wait_for_first(acting)
        conditioning = self.conditioning
        with stopwatch("unet_encoder", self.device):
            mid, embedding, *skips = self.unet.encoder(
                sample, timestep, conditioning.prompt_embeds, conditioning.pooled, conditioning.time_ids
            )
        return Encoded(mid, embedding, skips, acting)

    def decode(self, encoded: Encoded, stopwatch: Stopwatch) -> Tensor:
        """Add the ControlNets' residuals and run the decoder half; the prediction [rows, 4, h, w]."""
        mid, skips = encoded.mid, encoded.skips
        with stopwatch("controlnet_wait"):
            residuals = sum_residuals(encoded.acting, [tensor.shape for tensor in (*skips, mid)], like=mid)
        with stopwatch("unet_decoder", self.device):
            return self.unet.decoder(mid, encoded.embedding, skips, residuals, self.conditioning.prompt_embeds)


def join(predictions: Sequence[Tensor], device: torch.device) -> Tensor:
    """The branches' predictions as one guidance batch on `device`."""
    if len(predictions) == 1:
        return predictions[0]
    return torch.cat([prediction.to(device, non_blocking=True) for prediction in predictions])
