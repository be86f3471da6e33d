"""The model repository that `scripts/build` writes, as the models read it."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from swiftdiffusion.configuration import read_configuration
from swiftdiffusion.engines.tensorrt.records import GraphRecord, PlanRecord, write_record
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lane import LaneConfiguration
from swiftdiffusion.services.controlnet import ControlNetConfiguration
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.plans.profiles import default_profiles, parse_profile
from swiftdiffusion_build.repository import write_repository

MODELS = Path(__file__).resolve().parents[3] / "model_repository"
ADAPTERS = Path("/models/loras")


@pytest.fixture
def layout(checkpoint, tmp_path):
    """A build with the record of every plan."""
    layout = Layout(tmp_path)
    layout.plans.mkdir()
    for name in checkpoint.subjects():
        graph = GraphRecord(name, "", {}, "float16", (), (), (), (), 0)
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
    assert (lane.pipeline, lane.adapters) == (checkpoint.pipeline.resolve(), ADAPTERS)
    text_encoder = read(layout, "text_encoder", TextEncoderConfiguration)[1]
    vae = read(layout, "vae_decoder", VaeDecoderConfiguration)[1]
    controlnet = read(layout, "controlnet_edges", ControlNetConfiguration)[1]
    for configuration in (lane, text_encoder, vae, controlnet):
        assert configuration.engine == "tensorrt"
        assert configuration.plan("network") == layout.plan("network")
    assert controlnet.controlnet == checkpoint.controlnets[0].resolve()
    assert read(layout, "swiftdiffusion_stream", None)[0].model_transaction_policy.decoupled
    versions = {path.parent.name for path in layout.model_repository.glob("*/1")}
    assert versions == {"swiftdiffusion", "swiftdiffusion_stream", "text_encoder", "vae_decoder", "controlnet_edges"}


def test_requests_are_bounded_by_the_profiles(checkpoint, layout, begin):
    profiles = [parse_profile("portrait=2x192x128"), parse_profile("any=1-2x96-128-256x64-128-192")]
    write_repository(MODELS, checkpoint, ADAPTERS, profiles, layout, begin)
    lane = read(layout, "swiftdiffusion", LaneConfiguration)[1]
    assert (lane.width, lane.height, lane.size_min, lane.size_max) == (128, 192, 64, 256)


def test_a_missing_plan_is_refused(checkpoint, layout, begin):
    layout.plan("unet_decoder").with_suffix(".json").unlink()
    with pytest.raises(InvalidArgument, match=r"unet_decoder\.json is not there; `scripts/build` writes it"):
        write_repository(MODELS, checkpoint, ADAPTERS, default_profiles(128), layout, begin)
