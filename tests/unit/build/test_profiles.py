"""The sizes that plans are built for: of a checkpoint, of a file, of each network."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from sdxl.architecture import (
    describe_controlnet,
    describe_text_encoder,
    describe_text_encoder_2,
    describe_unet,
    describe_vae,
)
from swiftdiffusion.engines.tensorrt.records import Profile, Size
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.controlnet import ControlNet
from swiftdiffusion.networks.unet import UNetDecoder, UNetEncoder
from swiftdiffusion.networks.vae_decoder import VaeDecoder
from swiftdiffusion.networks.vae_encoder import VaeEncoder
from swiftdiffusion_build.export.specification import flatten
from swiftdiffusion_build.export.subjects import Checkpoint
from swiftdiffusion_build.plans.profile_file import read_profiles
from swiftdiffusion_build.plans.profiles import adapt, default_profiles
from swiftdiffusion_build.plans.volume import measure_volume

README = Path(__file__).resolve().parents[3] / "README.md"


def fix(name, batch, height, width):
    return Profile(name, *[Size(batch, height, width)] * 3)


def square(low, best, high, name="any"):
    return Profile(name, *(Size(batch, side, side) for batch, side in (low, best, high)))


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "profiles.toml"
        path.write_text(text)
        return read_profiles(path)

    return read


PORTRAIT = "[portrait]\nbatch = 2\nheight = 1344\nwidth = 768\n"


def test_a_file_names_profiles_in_its_order(read):
    text = "[any]\nbatch = [1, 2, 8]\nheight = [512, 1024, 1536]\nwidth = [512, 512, 768]\n" + PORTRAIT
    general, portrait = read(text)
    assert general == Profile("any", Size(1, 512, 512), Size(2, 1024, 512), Size(8, 1536, 768))
    assert portrait == fix("portrait", 2, 1344, 768)
    assert portrait.is_fixed and not general.is_fixed


def test_the_file_of_the_readme_is_one(read):
    (example,) = re.findall(r"<!-- test: profiles.toml -->\n```toml\n(.*?)```", README.read_text(), re.DOTALL)
    profiles = read(example)
    assert any(profile.is_fixed for profile in profiles)
    assert any((profile.low.batch, profile.high.batch) == (1, 8) for profile in profiles)


@pytest.mark.parametrize(("text", "sentence"), [
    ("", "there is no profile; allowed: at least one, a table with batch, height, width"),
    ("batch = 2", r"'batch' is '2'; allowed: tables, such as \[any\]"),
    ("[[any]]\nbatch = 2", r"'any' is .*; allowed: tables"),
    ('["a b"]\nbatch = 2', "a profile is called 'a b'; allowed: up to 32 letters, digits, _ and -"),
    (PORTRAIT.replace("portrait", "previews"), "a profile is called 'previews', as is one that a network has"),
    (PORTRAIT + "depth = 8", "portrait.depth is not known; known: batch, height, width"),
    ("[a]\nbatch = 2\nheight = 64", r"a.width is missing; allowed: a number, or \[least, best, greatest\]"),
    (PORTRAIT.replace("= 768", '= "768"'), "portrait.width is '768'; allowed: a whole number, or three"),
    (PORTRAIT.replace("= 768", "= 768.0"), "portrait.width is '768.0'; allowed: a whole number"),
    (PORTRAIT.replace("= 2", "= true"), "portrait.batch is 'True'; allowed: a whole number"),
    (PORTRAIT.replace("= 768", "= [512, 768]"), r"portrait.width is '\[512, 768\]'; allowed: a whole number, or three"),
    (PORTRAIT.replace("= 768", "= [768, 512, 1024]"), r"portrait.width is \[768, 512, 1024\]; allowed: 0 < least <= "),
    (PORTRAIT.replace("= 768", "= [768, 1024, 512]"), r"portrait.width is \[768, 1024, 512\]; allowed: 0 < least"),
    (PORTRAIT.replace("= 2", "= 0"), "portrait.batch is 0; allowed: 0 < least <= best <= greatest"),
    (PORTRAIT.replace("= 768", "= [512, 700, 1024]"), r"portrait.width is \[512, 700, 1024\]; allowed: multiples of 8"),
    (PORTRAIT + PORTRAIT, "is no TOML: .*portrait.* already exists"),
    (PORTRAIT + PORTRAIT.replace("[p", "[P"), "Portrait and portrait differ in their letters' case alone"),
    (PORTRAIT + PORTRAIT.replace("portrait", "tall"), "tall has the sizes of portrait; allowed: each once"),
    (PORTRAIT + "[any", "is no TOML: .* line 5"),
])  # fmt: skip
def test_what_no_plan_can_be_built_for_is_refused(read, text, sentence):
    with pytest.raises(InvalidArgument, match=rf"profiles .*profiles\.toml.*{sentence}"):
        read(text)


def test_the_defaults_for_sdxl():
    fixed, general = default_profiles(1024)
    assert fixed == fix("fixed", 2, 1024, 1024)
    assert (general.low, general.high) == (Size(1, 512, 512), Size(8, 1536, 1536))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    """The subjects of SDXL's real networks, without weights."""
    folder = tmp_path_factory.mktemp("sdxl")
    describe_unet().save_config(folder / "unet")
    describe_vae().save_config(folder / "vae")
    describe_controlnet().save_config(folder / "edges")
    describe_text_encoder().config.save_pretrained(folder / "text_encoder")
    describe_text_encoder_2().config.save_pretrained(folder / "text_encoder_2")
    networks = {
        "unet_encoder": lambda: UNetEncoder(describe_unet()),
        "unet_decoder": lambda: UNetDecoder(describe_unet()),
        "controlnet_edges": lambda: ControlNet(describe_controlnet()),
        "vae_decoder": lambda: VaeDecoder(describe_vae()),
        "vae_encoder": lambda: VaeEncoder(describe_vae()),
    }
    subjects = Checkpoint(folder, (folder / "edges",)).subjects()

    def load(make, dtype):
        return make().to(dtype)

    return {
        name: replace(subjects[name], load=partial(load, make, subjects[name].dtype)) for name, make in networks.items()
    }


@pytest.mark.parametrize(("side", "most"), [(768, 8), (1024, 7), (1536, 1)])
@pytest.mark.parametrize("name", ["vae_decoder", "vae_encoder"])
def test_a_vaes_batch_ends_with_tensorrts_largest_tensor(sdxl, name, side, most):
    profile, *_ = adapt([square((1, 512), (2, 512), (8, side))], sdxl[name], 8)
    assert (profile.low, profile.best, profile.high) == (Size(1, 512, 512), Size(1, 512, 512), Size(most, side, side))


def test_an_unets_batch_ends_there_too(sdxl):
    large, small = square((1, 512), (2, 1024), (8, 1536)), square((1, 512), (2, 1024), (8, 1024), "small")
    for name in ("unet_encoder", "unet_decoder", "controlnet_edges"):
        limited, whole = adapt([large, small], sdxl[name], 8)
        assert (limited.high, whole) == (Size(2, 1536, 1536), small)


def test_pictures_that_no_batch_makes_small_enough_are_refused(sdxl):
    with pytest.raises(InvalidArgument, match=(
        r"profile 'huge' goes up to 2048x2048 pixels, where vae_decoder has a tensor of 4,294,967,296 elements for a "
        r"batch of 1; TensorRT allows fewer than 2,147,483,648: smaller pictures$"
    )):  # fmt: skip
        adapt([fix("huge", 2, 2048, 2048)], sdxl["vae_decoder"], 8)
    with pytest.raises(InvalidArgument, match=r"'many' .*unet_encoder .*of 16; .*, or a batch of 12 at the least$"):
        adapt([fix("many", 16, 1024, 1024)], sdxl["unet_encoder"], 8)


def test_the_vae_takes_pictures_and_previews(sdxl):
    fixed, general, previews = adapt(default_profiles(1024), sdxl["vae_decoder"], 8)
    assert fixed == fix("fixed", 1, 1024, 1024)
    assert (general.low, general.high) == (Size(1, 512, 512), Size(1, 1536, 1536))
    assert (previews.low, previews.high) == (Size(1, 72, 72), Size(1, 256, 256))


def test_a_vae_needs_no_profile_twice(sdxl):
    profiles = [fix("guided", 2, 768, 512), fix("plain", 1, 768, 512)]
    assert [profile.name for profile in adapt(profiles, sdxl["vae_encoder"], 8)] == ["guided"]
    assert adapt(profiles, sdxl["unet_encoder"], 8) == tuple(profiles)


@pytest.mark.parametrize(("profiles", "most"), [
    (default_profiles(128), 8),
    ([fix("plain", 1, 64, 64)], 2),
])  # fmt: skip
def test_text_encoders_take_any_prompts_of_a_picture(checkpoint, profiles, most):
    (prompts,) = adapt(profiles, checkpoint.subjects()["text_encoder_2"], 4)
    assert [size.batch for size in (prompts.low, prompts.best, prompts.high)] == [1, 2, most]


def test_the_volume_is_that_of_the_exported_graphs_largest_tensor(exported):
    if exported.subject.name.startswith("text_encoder"):
        pytest.skip("has one profile whatever its volume")
    size = Size(2, 96, 128)
    model = onnx.load(exported.path)
    known = {output.name for output in model.graph.output}
    results = [name for node in model.graph.node for name in node.output if name and name not in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    tensors = flatten(exported.subject.inputs)
    fed = {name: torch.zeros(tensor.shape(size), dtype=tensor.dtype).numpy() for name, tensor in tensors.items()}
    largest = max(result.size for result in session.run(None, fed))
    assert largest == measure_volume(exported.subject.load().to("meta"), exported.subject.inputs, size)
