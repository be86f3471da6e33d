"""What steers every step alike: the prompts' embeddings and SDXL's size conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from swiftdiffusion.networks.unet import Encoder
from swiftdiffusion.placement import Placement, send


@dataclass(frozen=True)
class Conditioning:
    """The networks' conditioning inputs; with guidance the batch is (negative, prompt), else (prompt)."""

    prompt_embeds: Tensor  # [batch, tokens, width]; without the first row, of zeros, where there is no negative prompt
    pooled: Tensor  # [batch, pooled width]
    time_ids: Tensor  # [batch, 6]

    @property
    def batch(self) -> int:
        """2 with classifier-free guidance, 1 without."""
        return self.pooled.shape[0]

    def take(self, rows: slice) -> Conditioning:
        """Some rows of the batch, all with their prompts."""
        wordless = self.batch - self.prompt_embeds.shape[0]
        parts = (pad(self.prompt_embeds, (0, 0, 0, 0, wordless, 0)), self.pooled, self.time_ids)
        return Conditioning(*(part[rows] for part in parts))

    def to(self, device: torch.device) -> Conditioning:
        """The same on a device."""
        return Conditioning(send(self.prompt_embeds, device), send(self.pooled, device), send(self.time_ids, device))


@dataclass(frozen=True)
class Embedding:
    """One encoded prompt."""

    hidden: Tensor  # [tokens, width]
    pooled: Tensor  # [pooled width]


def condition(embeddings: Sequence[Embedding], height: int, width: int, wordless: int = 0) -> Conditioning:
    """Stack (negative, prompt), or (prompt) alone, with the picture's size in pixels for both.

    `wordless` rows before them have zeros instead of a prompt (``force_zeros_for_empty_prompt``).
    """
    hidden = torch.stack([embedding.hidden for embedding in embeddings])
    pooled = pad(torch.stack([embedding.pooled for embedding in embeddings]), (0, 0, wordless, 0))
    # original size, crop, target size: (height, width, 0, 0, height, width)
    sizes = torch.tensor([height, width, 0, 0, height, width], dtype=hidden.dtype, device=hidden.device)
    return Conditioning(hidden, pooled, sizes.expand(len(pooled), -1))


def blank(
    encoder: Encoder, tokens: int, height: int, width: int, placement: Placement, wordless: int = 0
) -> Conditioning:
    """The conditioning of guided pictures that say nothing, to warm up with; `encoder` is a UNet's or a ControlNet.

    `wordless` is 1 for one without a negative prompt.
    """
    nothing = Embedding(torch.zeros(tokens, encoder.prompt_width), torch.zeros(encoder.pooled_width))
    conditioning = condition([nothing] * (2 - wordless), height, width, wordless)
    parts = (conditioning.prompt_embeds, conditioning.pooled, conditioning.time_ids)
    return Conditioning(*(part.to(placement.device, placement.dtype) for part in parts))
