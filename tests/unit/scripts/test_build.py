"""What `scripts/build` and `scripts/check-tensorrt` take, and refuse before any work."""

import sys

import pytest
import torch

from commands import build, check_tensorrt
from launch.problems import LaunchError
from swiftdiffusion.engines.tensorrt.library import _load
from swiftdiffusion.engines.torch_engine import TorchEngine
from swiftdiffusion_build import checking

PROFILES = """\
[square]
batch = 2
height = 64
width = 64
[any]
batch = [1, 2, 3]
height = [48, 56, 80]
width = [48, 64, 96]
"""


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


def test_profiles_are_read_before_any_work(tmp_path):
    file = tmp_path / "profiles.toml"
    file.write_text("[square]\nbatch = 2\nheight = 128\nwidth = 100\n")
    options = build.parse_options(["export", "--profiles", str(file), "--out", str(tmp_path / "out")])
    with pytest.raises(LaunchError, match=r"profiles .*profiles\.toml: square\.width is 100; allowed: multiples of 8"):
        build.work(options)
    assert not (tmp_path / "out").exists()


def test_the_files_profiles_bound_the_requests(run, tmp_path):
    file = tmp_path / "profiles.toml"
    file.write_text(PROFILES)
    written = (run("--engine", "torch", "--profiles", str(file)) / "swiftdiffusion" / "config.pbtxt").read_text()
    for parameter, value in {"width": 64, "height": 64, "size_min": 48, "size_max": 96}.items():
        assert f'key: "{parameter}"\n  value {{\n    string_value: "{value}"' in written


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


@pytest.fixture
def no_tensorrt(monkeypatch):
    """No TensorRT of either kind is installed."""
    for module in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "tensorrt_rtx_libs"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    _load.cache_clear()
    yield
    _load.cache_clear()


@pytest.mark.parametrize(("command", "steps"), [
    (build, []),
    (build, ["export", "parse"]),
    (build, ["engines"]),
    (check_tensorrt, []),
], ids=["build", "parse", "engines", "check"])  # fmt: skip
@pytest.mark.usefixtures("no_tensorrt")
def test_without_tensorrt_a_command_says_how_to_get_it_before_any_work(command, steps, tmp_path):
    sentence = (
        r"TensorRT is not installed\. TensorRT comes by `\.venv/bin/pip install tensorrt`.*; TensorRT-RTX, .*`\.$"
    )
    with pytest.raises(LaunchError, match=sentence):
        command.work(command.parse_options([*steps, "--out", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="plans can be built here")
@pytest.mark.parametrize(("command", "steps"), [(build, []), (build, ["engines"]), (check_tensorrt, [])])
def test_without_a_gpu_a_command_says_what_needs_none(command, steps, tmp_path):
    with pytest.raises(LaunchError, match="torch sees none; the steps `scripts/build export parse` need none"):
        command.work(command.parse_options([*steps, "--out", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("step", "before"), [("parse", "export"), ("repository", "engines")])
def test_a_step_names_the_one_that_it_needs_first(run, step, before):
    with pytest.raises(LaunchError, match=rf"text_encoder\.json is not there; `scripts/build {before}` writes it\.$"):
        run(step)


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Run the checks of every size of two profiles on torch's engine."""
    monkeypatch.setattr(checking, "WARM_UP_CALLS", 0)
    monkeypatch.setattr(checking, "TIMED_CALLS", 1)
    file = tmp_path / "profiles.toml"
    file.write_text(PROFILES)

    def check(*networks):
        named = [word for network in networks for word in ("--network", network)]
        return check_tensorrt.work(check_tensorrt.parse_options(["--engine", "torch", "--profiles", str(file), *named]))

    return check


def test_torch_engines_pass_the_checks_at_every_profile(check, capsys):
    assert check("text_encoder", "unet_encoder", "vae_decoder") == 0
    heading, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert heading == ["network", "profile", "size", "difference", "refits", "ms", "plain", "ms", "refit", "ms"]
    assert [(*row[:3], "exact" in row) for row in rows] == [
        ("text_encoder", "prompts", "2x64x64", True),
        ("text_encoder", "prompts", "1x64x64", False),
        ("text_encoder", "prompts", "3x64x64", False),
        ("unet_encoder", "square", "2x64x64", True),
        ("unet_encoder", "any", "2x56x64", True),
        ("unet_encoder", "any", "1x48x48", False),
        ("unet_encoder", "any", "3x80x96", False),
        ("vae_decoder", "square", "1x64x64", False),
        ("vae_decoder", "previews", "1x56x64", False),
        ("vae_decoder", "previews", "1x48x48", False),
        ("vae_decoder", "any", "3x80x96", False),
        ("vae_decoder", "previews", "1x96x96", False),
        ("vae_decoder", "previews", "1x44x44", False),
    ]
    assert all(row[-1] == "ok" for row in rows)


def test_a_wrong_engine_is_found(check, capsys, monkeypatch):
    def call(engine, *inputs):
        return engine._network(*inputs) * 1.01

    monkeypatch.setattr(TorchEngine, "__call__", call)
    assert check("vae_decoder") == 1
    assert all(line.endswith("WRONG") for line in capsys.readouterr().out.splitlines()[1:])


def test_sizes_without_memory_are_not_taken_for_right(check, capsys, monkeypatch):
    def call(engine, *inputs):
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError
        return engine._network(*inputs)

    monkeypatch.setattr(TorchEngine, "__call__", torch.inference_mode()(call))
    most = 2
    assert check("text_encoder") == 0
    verdicts = [line.split()[-2:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert [verdict == ["no", "memory"] for verdict in verdicts] == [False, False, True]
    most = 0
    with pytest.raises(LaunchError, match="no memory to check text_encoder at any size of its profile 'prompts'"):
        check("text_encoder")
