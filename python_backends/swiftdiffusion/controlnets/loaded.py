"""A ControlNet that a process has loaded, and requests' sessions of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.denoising.timeline import Timeline
from swiftdiffusion.engines import Engine
from swiftdiffusion.engines.session import Session


@dataclass(frozen=True)
class LoadedControlNet:
    """A ControlNet that is ready to run."""

    engine: Engine
    nbytes: int  # of its parameters
    latent_channels: int
    pixels_a_latent: int  # on a side

    def shape_sample(self, batch: int, height: int, width: int) -> tuple[int, ...]:
        """The sample's shape, [batch, 4, h, w], for pictures of height x width pixels."""
        return (batch, self.latent_channels, height // self.pixels_a_latent, width // self.pixels_a_latent)

    def open(self, timestep: Tensor, prompts: Conditioning, image: Tensor, timeline: Timeline | None = None) -> Session:
        """A request's session, which takes (sample, timestep).

        Args:
            timestep: one like those to come, a scalar.
            prompts: what its branch of the UNet sees.
            image: the reference, [height, width, 3], values 0 to 255.
            timeline: to note when it is prepared and when each step runs.
        """
        reference = image.permute(2, 0, 1).unsqueeze(0) / 255
        sample = reference.new_zeros(self.shape_sample(prompts.batch, *reference.shape[2:]))
        given = (sample, timestep, prompts.prompt_embeds, prompts.pooled, prompts.time_ids, reference)
        if timeline is None:
            return self.engine.open(*given)
        with timeline.on("controlnet_prepare", image.device):  # what is the same in every step
            session = self.engine.open(*given)
        return _TimedSession(session, timeline, image.device)


class _TimedSession:
    """A session whose steps are noted in a timeline."""

    def __init__(self, session: Session, timeline: Timeline, device: torch.device) -> None:
        self._session, self._timeline, self._device = session, timeline, device
        self.close = session.close

    def step(self, *moving: Tensor) -> Tensor:
        """As the session's own."""
        with self._timeline.on("controlnet", self._device):
            return self._session.step(*moving)
