"""From the UNet's prediction to the next step's sample: guidance and the scheduler, as one product."""

from __future__ import annotations

import torch
from torch import Tensor

from swiftdiffusion.networks.network import Network


class Advance(Network):
    """One step of a `Plan`.

    Called with

    - noise: [batch, 4, h, w], what the UNet predicts,
    - state: [rows, 4, h, w], fp32,
    - fresh: [1, 4, h, w], what `Plan.draw` gave, or None,
    - weights: [rows + 1, columns], this step's of `Plan.steer`,

    it returns the new state and the next sample [batch, 4, h, w] in the prediction's dtype.
    """

    def step(
        self,
        noise: Tensor,
        state: Tensor,
        fresh: Tensor | None,
        weights: Tensor,
        prepared: tuple[()],
    ) -> tuple[Tensor, Tensor]:
        """Weigh, in fp32."""
        terms = [state[:-1], noise.float()]
        if fresh is not None:
            terms.append(fresh)
        outcome = (weights @ torch.cat(terms).flatten(1)).view(-1, *state.shape[1:])
        return outcome[:-1], outcome[-1:].to(noise.dtype).expand(noise.shape).contiguous()
