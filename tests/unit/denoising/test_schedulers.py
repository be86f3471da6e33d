import json

import diffusers
import pytest
import torch

from swiftdiffusion.denoising.schedulers import (
    SCHEDULERS,
    load_scheduler_config,
    make_scheduler,
    predict_clean,
)
from swiftdiffusion.errors import InvalidArgument


@pytest.fixture(params=["epsilon", "v_prediction"])
def config(tmp_path, request):
    written = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
        prediction_type=request.param,
    )
    written.save_pretrained(tmp_path / "scheduler")
    file = tmp_path / "scheduler" / "scheduler_config.json"
    # SDXL's own file says so for the schedulers that would clip; EulerDiscreteScheduler does not
    file.write_text(json.dumps(json.loads(file.read_text()) | {"clip_sample": False}))
    return load_scheduler_config(tmp_path)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_keeps_the_pipelines_noise_levels(config, name):
    scheduler = make_scheduler(name, config, 8)
    assert scheduler.config.beta_end == 0.012
    assert len(scheduler.timesteps) == 8


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_clean_picture_is_found_where_the_noise_is_known(config, name):
    generator = torch.Generator().manual_seed(0)
    scheduler = make_scheduler(name, config, 8)
    clean, noise = torch.randn((2, 1, 4, 8, 8), generator=generator)
    timestep = scheduler.timesteps[0]
    latents = scheduler.add_noise(clean, noise, timestep.reshape(1))
    scheduler.scale_model_input(latents, timestep)
    output = noise
    if config.prediction_type == "v_prediction":
        alpha = scheduler.alphas_cumprod[int(timestep)]
        output = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    result = scheduler.step(output, timestep, latents)
    found = predict_clean(scheduler, result, output, latents, timestep)
    # Karras spacing has noise levels between two timesteps, where the formula takes the nearer one
    assert torch.allclose(found, clean, atol=1.0 if name.endswith("DPMSolverMultistepScheduler:karras") else 1e-2)


def test_more_steps_than_a_scheduler_can_do_are_refused(config):
    with pytest.raises(InvalidArgument, match="steps is 60, which LCMScheduler cannot do"):
        make_scheduler("LCMScheduler", config, 60)
