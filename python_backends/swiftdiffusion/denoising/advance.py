"""From the UNet's prediction to the next step's sample: guidance and the scheduler, as one network without weights."""

from __future__ import annotations

import torch
from torch import Tensor

from swiftdiffusion.denoising.conditioning import guide
from swiftdiffusion.networks.network import Network


class Advance(Network):
    """One step of a `Plan`.

    Called with

    - noise: [batch, 4, h, w], what the UNet predicts,
    - state: [rows, 4, h, w], fp32,
    - fresh: [1, 4, h, w], what `Plan.draw` gave,
    - weights: [rows, columns], the plan's for this step,
    - guidance: scalar,
    - scale: scalar, the plan's for the next step,

    it returns the new state and the next sample [batch, 4, h, w] in the prediction's dtype.
    """

    def step(
        self,
        noise: Tensor,
        state: Tensor,
        fresh: Tensor | None,
        weights: Tensor,
        guidance: Tensor,
        scale: Tensor,
        prepared: tuple[()],
    ) -> tuple[Tensor, Tensor]:
        """Guide and weigh, in fp32."""
        terms = [state[:-1], guide(noise.float(), guidance)]
        if fresh is not None:
            terms.append(fresh)
        state = (weights @ torch.cat(terms).flatten(1)).view_as(state)
        return state, (state[:1] * scale).to(noise.dtype).expand(noise.shape).contiguous()
