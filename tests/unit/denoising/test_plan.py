"""Plans against the schedulers that they were made from."""

import diffusers
import pytest
import torch

from swiftdiffusion.denoising.advance import Advance
from swiftdiffusion.denoising.plan import make_plan
from swiftdiffusion.denoising.schedulers import SCHEDULERS, make_scheduler, takes_generator
from swiftdiffusion.errors import InvalidArgument


def make_config(**changes):
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return diffusers.DDPMScheduler(**(settings | changes)).config


def predict(sample, timestep):
    """Stands for a UNet: any function of what it gets."""
    return torch.tanh(sample + timestep / 1000) + 0.1 * sample.roll(1, -1)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_plan_takes_the_steps_of_diffusers_scheduler(name, steps, kind):
    config = make_config(prediction_type=kind)
    noise = torch.randn((1, 4, 6, 5), generator=torch.Generator().manual_seed(1))

    scheduler, generator = make_scheduler(name, config, steps), torch.Generator().manual_seed(2)
    latents, asked = noise * scheduler.init_noise_sigma, []
    for timestep in scheduler.timesteps:
        asked.append(scheduler.scale_model_input(latents, timestep))
        options = {"generator": generator} if takes_generator(scheduler) else {}
        latents = scheduler.step(predict(asked[-1], timestep), timestep, latents, **options).prev_sample

    plan, generator, advance = make_plan(name, config, steps), torch.Generator().manual_seed(2), Advance()
    state = plan.start(noise * plan.noise_scale)
    sample, weights = state[:1] * plan.scales[0], plan.steer(1.0, 1)
    for step in range(plan.steps):
        assert torch.allclose(sample, asked[step], atol=2e-4, rtol=1e-4)
        fresh = plan.draw(step, state, generator)
        state, sample = advance(predict(sample, plan.timesteps[step]), state, fresh, weights[step])
    assert torch.allclose(state[:1], latents, atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_guidance_leads_away_from_the_negative_prompt():
    plan = make_plan("EulerDiscreteScheduler", make_config(), 2)
    state = plan.start(torch.zeros(1, 4, 2, 2))
    noise = torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2)])
    guided, sample = Advance()(noise, state, None, plan.steer(3.0, 2)[0])
    plain, _ = Advance()(noise[1:], state, None, plan.steer(3.0, 1)[0])
    assert torch.allclose(guided, 3 * plain)
    assert torch.allclose(sample, (guided[:1] * plan.scales[1]).expand(2, -1, -1, -1))


def test_a_scheduler_that_clips_is_refused():
    with pytest.raises(InvalidArgument, match="DDIMScheduler is set to clip_sample"):
        make_plan("DDIMScheduler", make_config(clip_sample=True), 4)


def test_a_placed_plan_has_its_numbers_there():
    plan = make_plan("EulerDiscreteScheduler", make_config(), 2)
    placed = plan.on(torch.device("meta"))
    assert {tensor.device.type for tensor in (placed.timesteps, placed.scales, placed.weights)} == {"meta"}
    assert (placed.steps, placed.noise_scale, placed.draws) == (plan.steps, plan.noise_scale, plan.draws)
