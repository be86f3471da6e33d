"""Schedulers by diffusers' names, made from the pipeline's own as diffusers' users make them."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
from torch import Tensor

from swiftdiffusion.errors import InvalidArgument

# name in a request -> (class in diffusers, what is set beside the pipeline's own configuration)
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "EulerDiscreteScheduler": ("EulerDiscreteScheduler", {}),
    "EulerDiscreteScheduler:karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "EulerAncestralDiscreteScheduler": ("EulerAncestralDiscreteScheduler", {}),
    "DDIMScheduler": ("DDIMScheduler", {}),
    "DDPMScheduler": ("DDPMScheduler", {}),
    "DPMSolverMultistepScheduler": ("DPMSolverMultistepScheduler", {}),
    "DPMSolverMultistepScheduler:karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "UniPCMultistepScheduler": ("UniPCMultistepScheduler", {}),
    "LCMScheduler": ("LCMScheduler", {}),
}


def load_scheduler_config(folder: Path) -> Any:
    """The configuration of a pipeline folder's own scheduler, as diffusers holds it.

    Raises:
        InvalidArgument: a UNet that predicts neither noise nor velocity.
    """
    written = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    kind = written.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise InvalidArgument(f"the scheduler's prediction_type is {kind!r}; allowed: epsilon, v_prediction")
    return getattr(diffusers, written["_class_name"]).from_config(written).config


def make_scheduler(name: str, config: Any, steps: int) -> Any:
    """A scheduler with its timesteps set, on the CPU.

    Args:
        name: a key of `SCHEDULERS`.
        config: what `load_scheduler_config` gave; each name differs from it as
            ``Class.from_config(pipeline.scheduler.config, ...)`` does.
        steps: denoising steps.

    Raises:
        InvalidArgument: more steps than this scheduler can do.
    """
    class_name, changes = SCHEDULERS[name]
    scheduler = getattr(diffusers, class_name).from_config(config, **changes)
    try:
        scheduler.set_timesteps(steps)
    except ValueError as error:
        raise InvalidArgument(f"steps is {steps}, which {name} cannot do: {error}") from None
    return scheduler


def takes_generator(scheduler: Any) -> bool:
    """Whether the scheduler may draw noise in its steps."""
    return "generator" in signature(scheduler.step).parameters


def predict_clean(scheduler: Any, result: Any, output: Tensor, latents: Tensor, timestep: Any) -> Tensor:
    """The clean latents that this step's prediction implies, for a preview.

    Args:
        scheduler: the request's scheduler, after its step.
        result: what ``scheduler.step`` returned.
        output: the UNet's guided output, shaped as `latents`.
        latents: the latents that went into the step.
        timestep: the step's timestep.

    Returns:
        x₀ shaped as `latents`: the scheduler's own where it gives one; else, for the variance-preserving ones that
        do not, (x - √(1-ᾱ) ε) / √ᾱ (DDIM, arXiv 2010.02502, eq. 9), or √ᾱ x - √(1-ᾱ) v where the UNet predicts
        velocity (arXiv 2202.00512, appendix D).
    """
    clean = getattr(result, "pred_original_sample", None)
    if clean is not None:
        return clean
    alpha = scheduler.alphas_cumprod[int(timestep)].to(latents)
    if scheduler.config.prediction_type == "v_prediction":
        return alpha.sqrt() * latents - (1 - alpha).sqrt() * output
    return (latents - (1 - alpha).sqrt() * output) / alpha.sqrt()
