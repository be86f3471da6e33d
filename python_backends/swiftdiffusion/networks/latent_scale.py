"""The scale of the VAE's latents in the denoising loop, which both halves of the VAE know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.networks.network import Network


class LatentScale(Network):
    """A half of a VAE with the pipeline's scaling: a factor, and for some a mean and deviation a channel."""

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: Any) -> None:
        """Args: the configuration of diffusers' ``AutoencoderKL``."""
        super().__init__()
        self.configuration = dict(config)
        self.scaling_factor = config.scaling_factor
        for name, default in (("latents_mean", 0.0), ("latents_std", 1.0)):
            values = getattr(config, name, None) or [default] * config.latent_channels
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
