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
    assert (
        "no step is called 'compile'; there are: placement, export, parse, engines, repository"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--gpus", "2"], "--gpus and --gpu-memory-gb belong together"),
    (["--gpus", "0", "--gpu-memory-gb", "8"], "--gpus and --gpu-memory-gb belong together"),
    (["--gpu-memory-gb", "8"], "--gpus and --gpu-memory-gb belong together"),
    (["--gpus", "-1"], "--gpus is -1; allowed: 0 to 64"),
    (["--gpus", "1", "--gpu-memory-gb", "nan"], "--gpu-memory-gb is nan; allowed: above 0, up to 10000"),
])  # fmt: skip
def test_gpus_that_cannot_be_are_refused(arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        build.parse_options(["placement", *arguments])
    assert sentence in capsys.readouterr().err


@pytest.fixture
def run(tmp_path):
    """Run steps for the checkpoint of the repository, into a folder of the test."""

    def run(*arguments):
        out = tmp_path / "out"
        build.work(build.parse_options([*arguments, "--out", str(out)]))
        return out / "model_repository"

    return run


def test_a_suggestion_is_printed_kept_and_followed(run, tmp_path, capsys):
    file = tmp_path / "placement.toml"
    machine = ("--gpus", "2", "--gpu-memory-gb", "8", "--placement", str(file))
    run("placement", *machine)
    assert capsys.readouterr().out == file.read_text()
    file.write_text(file.read_text().replace("text_encoder = 0", "text_encoder = 1"))
    repository = run("--engine", "cuda_graph", *machine)  # all that this engine needs is the repository
    assert "gpus: 1" in (repository / "text_encoder" / "config.pbtxt").read_text()
    assert "gpus: 0" in (repository / "swiftdiffusion" / "config.pbtxt").read_text()
    with pytest.raises(LaunchError, match=r"placement\.toml is there already: name another"):
        run("placement", *machine)


def test_a_placement_that_cannot_work_leaves_what_was_written(run, tmp_path):
    file = tmp_path / "placement.toml"
    repository = run("placement", "repository", "--engine", "torch", "--gpus", "0", "--placement", str(file))
    written = {path: path.read_bytes() for path in repository.rglob("config.pbtxt")}
    assert written
    file.write_text(file.read_text().replace('layout = "cpu"', "layout = 0"))
    with pytest.raises(LaunchError, match=r"controlnets.layout names GPU 0; there are none"):
        run("repository", "--engine", "torch", "--gpus", "0", "--placement", str(file))
    with pytest.raises(LaunchError, match="is on the CPU, where the engine tensorrt does not run"):
        run("placement", "repository", "--gpus", "0", "--placement", str(tmp_path / "other.toml"))
    assert not (tmp_path / "other.toml").exists()
    assert {path: path.read_bytes() for path in repository.rglob("config.pbtxt")} == written


def test_torch_engines_pass_the_checks(capsys):
    options = check_tensorrt.parse_options(
        ["--engine", "torch", "--network", "text_encoder", "--network", "vae_decoder"]
    )
    assert check_tensorrt.work(options) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["network", "difference", "refits", "ms", "plain", "ms", "refit", "ms"]
    assert [row.split()[0] for row in rows] == ["text_encoder", "vae_decoder"]
    assert all(row.endswith("ok") for row in rows)
