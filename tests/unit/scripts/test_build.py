"""What `scripts/build` and `scripts/check-tensorrt` take, and refuse before any work."""

import pytest

from commands import build, check_tensorrt
from launch.problems import LaunchError
from swiftdiffusion.errors import InvalidArgument


def test_the_checkpoint_of_the_repository_is_the_default():
    checkpoint, adapters = build.find_checkpoint(build.parse_options([]))
    assert [folder.name for folder in checkpoint.controlnets] == ["edges", "layout"]
    assert (checkpoint.native_pixels, checkpoint.pixels_per_latent) == (128, 4)
    assert (adapters / "night.safetensors").exists()


def test_another_checkpoint_comes_without_controlnets(tmp_path):
    (tmp_path / "model_index.json").touch()
    checkpoint, adapters = build.find_checkpoint(build.parse_options(["--pipeline", str(tmp_path)]))
    assert (checkpoint.pipeline, checkpoint.controlnets, adapters) == (tmp_path, (), tmp_path / "loras")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--pipeline", "nowhere"], "nowhere is no diffusers pipeline"),
    (["--controlnet", "nowhere"], "nowhere is no diffusers ControlNet"),
    (["--network", "unet"], "--network is 'unet'; there are: text_encoder, text_encoder_2, unet_encoder"),
])  # fmt: skip
def test_what_is_not_there_is_refused(arguments, sentence):
    with pytest.raises(LaunchError, match=sentence):
        build.run_steps(build.parse_options(arguments), ["export"])


def test_a_profile_of_another_form_is_refused():
    with pytest.raises(InvalidArgument, match="profile 'big' is not of the form"):
        build.run_steps(build.parse_options(["--profile", "big"]), ["export"])


def test_an_unknown_step_is_refused(capsys):
    with pytest.raises(SystemExit):
        build.parse_options(["compile"])
    assert "no step is called 'compile'; there are: export, parse, engines, repository" in capsys.readouterr().err


def test_torch_engines_pass_the_checks(capsys):
    options = check_tensorrt.parse_options(
        ["--engine", "torch", "--network", "text_encoder", "--network", "vae_decoder"]
    )
    assert check_tensorrt.work(options) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["network", "difference", "refits", "ms", "plain", "ms", "refit", "ms"]
    assert [row.split()[0] for row in rows] == ["text_encoder", "vae_decoder"]
    assert all(row.endswith("ok") for row in rows)
