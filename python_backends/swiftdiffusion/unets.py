"""A lane's UNet: on one GPU, or on two that share the work of guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from swiftdiffusion.adapters.prepared import LiveEngine
from swiftdiffusion.denoising.branch import UNet, join
from swiftdiffusion.denoising.conditioning import Conditioning, blank
from swiftdiffusion.engines import Engine, make_engine
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.placement import NetworkConfiguration, Placement


@dataclass(frozen=True)
class Share:
    """What one GPU does of a picture's guidance batch."""

    unet: UNet
    placement: Placement
    batch: int  # of its rows
    rows: slice | None  # of the whole batch; None for all

    def take(self, conditioning: Conditioning) -> Conditioning:
        """Its rows, where they are."""
        return conditioning if self.rows is None else conditioning.take(self.rows)


@dataclass(frozen=True)
class _Twin:
    placement: Placement
    encoder: Engine
    decoder: Engine


class UNets:
    """The UNet on each of a lane's GPUs.

    With a second GPU, a guided picture's negative half is predicted there (latent parallelism, arXiv 2407.02031,
    section 4.3).
    """

    def __init__(self, folder: Path, configuration: NetworkConfiguration, placements: Sequence[Placement]) -> None:
        """Load a pipeline's UNet to one placement or two."""
        self._twins: list[_Twin] = []
        for placement in placements:
            encoder, decoder = load_unet(folder, placement.dtype)
            kind = configuration.engine
            captures = configuration.prompted_captures
            self._twins.append(
                _Twin(
                    placement,
                    make_engine(kind, encoder, placement, captures=captures, plan=configuration.plan("unet_encoder")),
                    # with ControlNets' residuals and without
                    make_engine(
                        kind, decoder, placement, captures=2 * captures, plan=configuration.plan("unet_decoder")
                    ),
                )
            )
        self._network = encoder

    @property
    def patched(self) -> list[LiveEngine]:
        """The engines whose weights LoRAs are patched into."""
        return [engine for twin in self._twins for engine in (twin.encoder, twin.decoder)]

    def count_residuals(self, batch: int, height: int, width: int) -> int:
        """How many values a ControlNet gives in a step for samples [batch, 4, height, width]."""
        return self._network.count_residuals(batch, height, width)

    def require_size(self, guided: bool, height: int, width: int) -> None:
        """Raise `InvalidArgument` for a picture that the engines were not made for."""
        batch = 2 if guided and len(self._twins) == 1 else 1
        for twin in self._twins:
            for engine in (twin.encoder, twin.decoder):
                engine.require_size(batch, height, width)

    def share(self, batch: int) -> list[Share]:
        """Who predicts which rows of the guidance batch, in its order; a picture without guidance is not shared."""
        first, *others = self._twins
        if not others or batch == 1:
            return [Share(UNet(first.encoder, first.decoder), first.placement, batch, None)]
        return [
            Share(UNet(twin.encoder, twin.decoder), twin.placement, 1, rows)
            for twin, rows in ((others[0], slice(0, 1)), (first, slice(1, 2)))
        ]

    @torch.inference_mode()
    def warm_up(self, tokens: int, sample: tuple[int, ...], height: int, width: int) -> Tensor:
        """Take guided steps with ControlNets' residuals and without, with a negative prompt and without.

        Args:
            tokens: of the prompts to come.
            sample: the latents' shape [1, 4, h, w] of pictures of `height` x `width` pixels.

        Returns:
            A prediction [2, 4, h, w] on the first GPU.
        """
        first = self._twins[0].placement
        blanks = [blank(self._network, tokens, height, width, first, wordless) for wordless in (0, 1)]
        return [self._step(conditioning, sample) for conditioning in blanks][-1]

    def _step(self, conditioning: Conditioning, sample: tuple[int, ...]) -> Tensor:
        predictions = []
        for share in self.share(conditioning.batch):
            given, unet = share.take(conditioning).to(share.placement.device), share.unet
            latents = given.pooled.new_zeros((given.batch, *sample[1:]))
            mid, embedding, *skips = unet.encoder(
                latents, latents.new_ones((), dtype=torch.float32), given.prompt_embeds, given.pooled, given.time_ids
            )
            for residuals in ([torch.zeros_like(tensor) for tensor in (*skips, mid)], None):
                noise = unet.decoder(mid, embedding, skips, residuals, given.prompt_embeds)
            predictions.append(noise)
        return join(predictions, self._twins[0].placement.device)
