"""DoRA (arXiv 2402.09353): the patched weight's rows are brought towards the lengths that the file gives.

Where several adapters act, PEFT applies them one after the other (`peft.tuners.lora.variants`): a LoRA adds its
product, a DoRA adds its own and then multiplies each row of all that is there by ``magnitude / |base + scale · B A|``,
whose length is that of the base with this adapter alone.
"""

import torch
from torch import Tensor

from swiftdiffusion.adapters.factors import Factors
from swiftdiffusion_operators.lora_patch import sum_terms
from swiftdiffusion_operators.weight_patch import Term


def compute_gain(factors: Factors, scale: float, pristine: Tensor) -> Tensor:
    """``magnitude / |base + scale · B A|`` for each row, fp32 [out], on the factors' device.

    `factors` must have a magnitude.
    """
    assert factors.magnitude is not None
    device = factors.down.device
    change = sum_terms([Term(factors.down, factors.up, scale * factors.strength)], pristine.shape, device)
    lengths = (pristine.to(device, torch.float32) + change).flatten(1).norm(dim=1)
    return factors.magnitude.to(torch.float32) / lengths


def scale_rows(term: Term, gain: Tensor) -> Term:
    """The term with each row of its matrix times its gain, in fp32."""
    left = term.down if term.up is None else term.up
    scaled = left.float() * gain.reshape(-1, *(1 for _ in left.shape[1:]))
    return Term(scaled, None, term.scale) if term.up is None else Term(term.down, scaled, term.scale)
