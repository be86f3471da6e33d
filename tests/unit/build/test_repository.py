"""The model repository that `scripts/build` writes, as the models read it."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from swiftdiffusion.configuration import Location, read_configuration
from swiftdiffusion.engines.tensorrt.records import GraphRecord, PlanRecord, Profile, Size, write_record
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lane_configuration import LaneConfiguration
from swiftdiffusion.services.adapters import AdapterListConfiguration
from swiftdiffusion.services.controlnet import ControlNetConfiguration
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.placement.server_placement import CPU, ServerPlacement
from swiftdiffusion_build.plans.profiles import default_profiles
from swiftdiffusion_build.repository import write_repository

MODELS = Path(__file__).resolve().parents[3] / "model_repository"
ADAPTERS = Path("/models/loras")
FAMILIES = {
    "adapters": AdapterListConfiguration,
    "swiftdiffusion": LaneConfiguration,
    "text_encoder": TextEncoderConfiguration,
    "vae_decoder": VaeDecoderConfiguration,
    "controlnet_edges": ControlNetConfiguration,
}


@pytest.fixture
def layout(checkpoint, tmp_path):
    """A build with the record of every plan."""
    layout = Layout(tmp_path)
    layout.plans.mkdir()
    for name in checkpoint.subjects():
        graph = GraphRecord(name, "", "", {}, "float16", (), (), (), (), 0)
        write_record(layout.plan(name).with_suffix(".json"), PlanRecord(graph, "tensorrt 10.9.0", "GPU", (), ()))
    return layout


def read(layout, model, family):
    text = (layout.model_repository / model / "config.pbtxt").read_text()
    config = text_format.Parse(text, ModelConfig())
    parameters = {name: parameter.string_value for name, parameter in config.parameters.items()}
    return config, family and read_configuration(family, parameters, layout.model_repository)


def test_every_model_finds_its_plan(checkpoint, layout, begin):
    write_repository(MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin)
    config, lane = read(layout, "swiftdiffusion", LaneConfiguration)
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 16
    assert (lane.width, lane.height, lane.size_min, lane.size_max) == (128, 128, 64, 192)
    assert (lane.pipeline, lane.adapters) == (checkpoint.pipeline.resolve(), Location(ADAPTERS))
    text_encoder = read(layout, "text_encoder", TextEncoderConfiguration)[1]
    vae = read(layout, "vae_decoder", VaeDecoderConfiguration)[1]
    controlnet = read(layout, "controlnet_edges", ControlNetConfiguration)[1]
    for configuration in (lane, text_encoder, vae, controlnet):
        assert configuration.engine == "tensorrt"
        assert configuration.plan("network") == layout.plan("network")
    assert controlnet.controlnet == checkpoint.controlnets[0].resolve()
    assert read(layout, "swiftdiffusion_stream", None)[0].model_transaction_policy.decoupled
    listing = read(layout, "adapters", AdapterListConfiguration)[1]
    assert (listing.pipeline, listing.adapters) == (lane.pipeline, lane.adapters)
    versions = {path.parent.name for path in layout.model_repository.glob("*/1")}
    assert versions == {*FAMILIES, "swiftdiffusion_stream"}


def test_requests_are_bounded_by_the_profiles(checkpoint, layout, begin):
    profiles = [
        Profile("portrait", *[Size(2, 192, 128)] * 3),
        Profile("any", Size(1, 96, 64), Size(2, 128, 128), Size(2, 256, 192)),
    ]
    write_repository(MODELS, checkpoint, ADAPTERS, profiles, layout, begin)
    lane = read(layout, "swiftdiffusion", LaneConfiguration)[1]
    assert (lane.width, lane.height, lane.size_min, lane.size_max) == (128, 192, 64, 256)
    assert read(layout, "vae_decoder", VaeDecoderConfiguration)[1].size_max == 256


def test_what_it_is_made_from_is_not_written_over(checkpoint, layout, begin):
    models = layout.model_repository / "vae_decoder"
    models.mkdir(parents=True)
    (models / "config.pbtxt").write_text('backend: "vae"')
    with pytest.raises(InvalidArgument, match="is what the repository is made from"):
        write_repository(models.parent, checkpoint, ADAPTERS, default_profiles(128), layout, begin)
    assert (models / "config.pbtxt").exists()


def test_a_missing_plan_is_refused(checkpoint, layout, begin):
    layout.plan("unet_decoder").with_suffix(".json").unlink()
    with pytest.raises(InvalidArgument, match=r"unet_decoder\.json is not there; `scripts/build engines` writes it"):
        write_repository(MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin)


def groups(config):
    return [(group.name, ModelInstanceGroup.Kind.Name(group.kind), list(group.gpus), group.count) for group in config]


def test_a_placement_becomes_instance_groups(checkpoint, layout, begin):
    placement = ServerPlacement((1,), (1, 2), {"first": (0,), "second": (3,)}, {"edges": (2,)})
    write_repository(MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin, placement=placement)
    written = {name: read(layout, name, family) for name, family in FAMILIES.items()}
    assert {name: groups(config.instance_group) for name, (config, _) in written.items()} == {
        "adapters": [("", "KIND_CPU", [], 1)],  # as it was: it has no network
        "swiftdiffusion": [("first", "KIND_GPU", [0], 1), ("second", "KIND_GPU", [3], 1)],
        "text_encoder": [("", "KIND_GPU", [1], 1)],
        "vae_decoder": [("", "KIND_GPU", [1, 2], 1)],
        "controlnet_edges": [("", "KIND_GPU", [2], 1)],
    }
    assert all(configuration.device == "auto" for name, (_, configuration) in written.items() if name != "adapters")
    stream = read(layout, "swiftdiffusion_stream", None)[0]
    assert groups(stream.instance_group) == [("", "KIND_CPU", [], 2)], "as many streams are drawn as there are lanes"


def test_a_lane_of_two_gpus_has_its_instance_on_the_first(checkpoint, layout, begin):
    placement = ServerPlacement((0,), (0,), {"first": (0, 1), "second": (2,), "third": (4, 3)}, {"edges": (1,)})
    write_repository(MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin, placement=placement)
    config, configuration = read(layout, "swiftdiffusion", LaneConfiguration)
    assert [group[2] for group in groups(config.instance_group)] == [[0], [2], [4]]
    assert configuration.second_gpu == "cuda:0=cuda:1, cuda:4=cuda:3"


def test_a_controlnet_on_two_gpus_is_two_models_of_one_name(checkpoint, layout, begin):
    placement = ServerPlacement((0,), (0,), {"first": (0, 1)}, {"edges": (1, 0)})
    write_repository(MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin, placement=placement)
    for model, name, gpu in (("controlnet_edges", "", 1), ("controlnet_edges.gpu0", "edges", 0)):
        config, configuration = read(layout, model, ControlNetConfiguration)
        assert groups(config.instance_group) == [("", "KIND_GPU", [gpu], 1)]
        assert (configuration.name, configuration.controlnet.name) == (name, "edges")


def test_a_controlnet_that_the_lanes_run_is_no_model(checkpoint, layout, begin):
    placement = ServerPlacement((0,), (0,), {"first": (0, 1)}, resident=("edges",))
    for _ in range(2):  # over what is there
        write_repository(MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin, placement=placement)
        assert not (layout.model_repository / "controlnet_edges").exists()
        lane = read(layout, "swiftdiffusion", LaneConfiguration)[1]
        assert lane.controlnets_pinned == "edges"
        assert [folder.name for folder in lane.controlnets.iterdir()] == ["edges"]
        assert (lane.controlnets / "edges").samefile(checkpoint.controlnets[0])


def test_on_the_cpu_the_device_is_said_and_no_plan_is_needed(checkpoint, tmp_path, begin):
    layout = Layout(tmp_path)
    placement = ServerPlacement(CPU, (0,), {"first": CPU}, {"edges": CPU})
    write_repository(
        MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin, engine="torch", placement=placement
    )
    for name, device in {"swiftdiffusion": "cpu", "vae_decoder": "auto", "controlnet_edges": "cpu"}.items():
        config, configuration = read(layout, name, FAMILIES[name])
        assert (configuration.device, configuration.engine, configuration.plans) == (device, "torch", None)
        assert groups(config.instance_group)[0][1] == ("KIND_CPU" if device == "cpu" else "KIND_GPU")


def test_without_a_placement_triton_chooses(checkpoint, layout, begin):
    write_repository(MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin)
    assert not read(layout, "swiftdiffusion", None)[0].instance_group
    assert read(layout, "swiftdiffusion_stream", None)[0].instance_group[0].count == 1
