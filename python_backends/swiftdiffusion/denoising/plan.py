"""A scheduler's whole course as numbers, so that its steps need no host.

Every scheduler served is linear: a step gives weighted sums of the sample, the UNet's prediction, what the scheduler
keeps of earlier steps, and fresh noise. The weights are found by running diffusers' own scheduler once on unit vectors
in place of pictures, so nothing of any scheduler is written down here a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.denoising.schedulers import make_scheduler, predict_clean, takes_generator
from swiftdiffusion.errors import InvalidArgument

# the axes of the vectors that stand for pictures: the sample, what is kept, then these
_KEPT = range(1, 5)
_PREDICTION = 5
_SILENT = 6  # of no input: what is found here is fresh noise
_SHAPE = (1, 7, 1, 1)

Place = tuple[str, int | None]  # an attribute of a scheduler, and where in it if it is a list


@dataclass(frozen=True, eq=False)
class Plan:
    """What a number of steps with one scheduler do.

    The state is [rows, 4, h, w]: the sample, what the scheduler keeps, and last the clean picture as foreseen.
    """

    timesteps: Tensor  # [steps]
    scales: Tensor  # [steps]: what the sample is multiplied by for the UNet
    weights: Tensor  # [steps, rows, columns]: of the state without its last row, the prediction and fresh noise
    draws: tuple[bool, ...]  # for each step, whether it takes fresh noise
    noise_scale: float  # of the first sample

    def on(self, device: torch.device) -> Plan:
        """The same, its numbers on a device, where a step finds them without waiting for the host."""
        numbers = {name: getattr(self, name).to(device) for name in ("timesteps", "scales", "weights")}
        return replace(self, **numbers)

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.timesteps)

    def start(self, latents: Tensor) -> Tensor:
        """The first state, in fp32, from noise [1, 4, h, w] that `noise_scale` is in already."""
        state = latents.new_zeros((self.weights.shape[1], *latents.shape[1:]), dtype=torch.float32)
        state[:1] = latents
        return state

    def steer(self, guidance_scale: float, batch: int) -> Tensor:
        """The weights with guidance in them (classifier-free guidance, arXiv 2207.12598, eq. 6) and the next sample.

        Returns [steps, rows + 1, columns]: a last row for what the UNet sees next, and for a batch of two, in place of
        the prediction's column, one of the negative prompt's and one of the prompt's.
        """
        place = self.weights.shape[2] - 1 - any(self.draws)
        before, prediction, after = self.weights.split([place, 1, self.weights.shape[2] - place - 1], dim=2)
        halves = [prediction] if batch == 1 else [prediction * (1 - guidance_scale), prediction * guidance_scale]
        guided = torch.cat([before, *halves, after], dim=2)
        following = torch.cat([self.scales[1:], self.scales[-1:]])
        return torch.cat([guided, guided[:, :1] * following[:, None, None]], dim=1)

    def draw(self, step: int, state: Tensor, generator: torch.Generator) -> Tensor | None:
        """Fresh noise [1, 4, h, w] for a step, zeros where it takes none, None where no step takes any."""
        if not any(self.draws):
            return None
        shape = (1, *state.shape[1:])
        if not self.draws[step]:
            return state.new_zeros(shape)
        return torch.randn(shape, generator=generator).to(state.device, non_blocking=True)


def make_plan(name: str, config: Any, steps: int) -> Plan:
    """Run a scheduler on unit vectors.

    Args:
        name: a key of `SCHEDULERS`.
        config: what `load_scheduler_config` gave.
        steps: denoising steps.

    Raises:
        InvalidArgument: more steps than the scheduler can do, or a scheduler that clips, which is not linear.
    """
    scheduler = make_scheduler(name, config, steps)
    for limit in ("clip_sample", "thresholding"):
        if scheduler.config.get(limit):
            raise InvalidArgument(f"scheduler {name} is set to {limit} in the pipeline's folder; only false is served")
    rows: dict[Place, int] = {}
    scales, weights, draws = [], [], []
    for step, timestep in enumerate(scheduler.timesteps):
        for place in list(_find_kept(scheduler)):
            _put(scheduler, place, _unit(rows.setdefault(place, _KEPT[len(rows)])))
        sample, prediction = _unit(0), _unit(_PREDICTION)
        scales.append(float(scheduler.scale_model_input(sample, timestep)[0, 0]))
        generator, twin = torch.Generator().manual_seed(step), torch.Generator().manual_seed(step)
        options = {"generator": generator} if takes_generator(scheduler) else {}
        result = scheduler.step(prediction, timestep, sample, **options)
        draws.append(not torch.equal(generator.get_state(), twin.get_state()))
        noise = torch.randn(_SHAPE, generator=twin, dtype=sample.dtype)
        outcome = {0: result.prev_sample, -1: predict_clean(scheduler, result, prediction, sample, timestep)}
        outcome |= {rows.setdefault(place, _KEPT[len(rows)]): kept for place, kept in _find_kept(scheduler).items()}
        weights.append({row: _weigh(vector, noise) for row, vector in outcome.items()})
    return Plan(
        timesteps=scheduler.timesteps.float(),
        scales=torch.tensor(scales),
        weights=_gather(weights, len(rows), any(draws)),
        draws=tuple(draws),
        noise_scale=float(scheduler.init_noise_sigma),
    )


def _unit(axis: int) -> Tensor:
    vector = torch.zeros(_SHAPE, dtype=torch.float64)
    vector[0, axis] = 1
    return vector


def _find_kept(scheduler: Any) -> dict[Place, Tensor]:
    """What looks like a picture among the scheduler's attributes."""

    def find() -> Iterator[tuple[Place, Any]]:
        for name, value in vars(scheduler).items():
            yield from (((name, index), item) for index, item in enumerate(value)) if isinstance(value, list) else ()
            yield (name, None), value

    return {place: value for place, value in find() if isinstance(value, Tensor) and value.shape == _SHAPE}


def _put(scheduler: Any, place: Place, value: Tensor) -> None:
    name, index = place
    if index is None:
        setattr(scheduler, name, value)
    else:
        getattr(scheduler, name)[index] = value


def _weigh(vector: Tensor, noise: Tensor) -> Tensor:
    """The weights that made a vector [7]: those of its axes and, in place of the silent one, that of the noise."""
    share = vector[0, _SILENT] / noise[0, _SILENT]
    weights = (vector - share * noise).flatten()
    weights[_SILENT] = share
    return weights


def _gather(steps: list[dict[int, Tensor]], kept: int, draws: bool) -> Tensor:
    columns = [0, *_KEPT[:kept], _PREDICTION, *([_SILENT] if draws else [])]
    none = torch.zeros(_SHAPE[1], dtype=torch.float64)
    rows = [torch.stack([step.get(row, none) for row in (0, *_KEPT[:kept], -1)]) for step in steps]
    return torch.stack(rows)[:, :, columns].float()
