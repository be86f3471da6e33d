"""ONNX files of `shapes` through TensorRT-RTX's parser and builder, which need no GPU."""

from dataclasses import replace

import onnx
import pytest
import torch

from swiftdiffusion.engines.tensorrt.library import load_tensorrt
from swiftdiffusion.engines.tensorrt.records import Profile, Size
from swiftdiffusion.errors import Internal, Unavailable
from swiftdiffusion_build.export.specification import flatten
from swiftdiffusion_build.layout import Layout
from swiftdiffusion_build.plans.building import build, parse
from swiftdiffusion_build.plans.profiles import adapt, default_profiles
from swiftdiffusion_build.plans.step import build_plans, parse_networks


@pytest.fixture(scope="module")
def library():
    return load_tensorrt("tensorrt_rtx")


@pytest.fixture
def progress(begin):
    with begin("building") as progress:
        yield progress


def test_a_network_is_parsed_and_built(exported, checkpoint, library, progress):
    """Parsing raises unless the plugins are as many as the nodes and every layer can be marked for refitting."""
    parsed = parse(library, exported.path, exported.record)
    assert all(parsed.network.are_weights_marked_refittable(name) for name in exported.record.layers)
    profiles = adapt(default_profiles(checkpoint.native_pixels), exported.subject, checkpoint.pixels_per_latent)
    inputs = flatten(exported.subject.inputs)
    plan = build(library, parsed, inputs, profiles, progress, refittable=False, for_absent_gpu=True)
    weights = sum(weight.nbytes for weight in exported.subject.load().weights().values())
    assert len(plan) > weights
    assert any(said.startswith("Building engine") for said in progress)


def test_tensorrts_reason_for_building_nothing_is_told(export, library, progress):
    exported = export("vae_decoder")
    huge = Profile("huge", *[Size(8, 4096, 4096)] * 3)  # more than `adapt` lets pass
    parsed, inputs = parse(library, exported.path, exported.record), flatten(exported.subject.inputs)
    with pytest.raises(Internal, match=r"did not build the plan: .*tensor volume exceeds"):
        build(library, parsed, inputs, [huge], progress, refittable=False, for_absent_gpu=True)


def test_tensorrt_knows_every_parameter_by_its_name(exported, library):
    network = parse(library, exported.path, exported.record).network
    names = exported.subject.load().weights()
    assert [name for name in names if not network.mark_weights_refittable(name)] == []


def test_the_shapes_that_plugins_give_are_the_networks(export, library):
    exported = export("unet_encoder")
    network = parse(library, exported.path, exported.record).network
    layers = [network.get_layer(place) for place in range(network.num_layers)]
    plugins = [layer for layer in layers if layer.type == library.trt.LayerType.PLUGIN_V3]
    shapes = [(tuple(plugin.get_input(0).shape), tuple(plugin.get_output(0).shape)) for plugin in plugins]
    pictures = [(taken, given) for taken, given in shapes if len(taken) == 4]
    features = [(taken, given) for taken, given in shapes if len(taken) == 3]
    assert (len(pictures), len(features)) == (13, 3)
    assert all(given == taken for taken, given in pictures)
    assert all(given == (*taken[:-1], taken[-1] // 2) for taken, given in features)


def test_a_node_without_a_plugin_is_an_error(export, library, tmp_path):
    exported = export("unet_encoder")
    model = onnx.load(exported.path)
    node = next(node for node in model.graph.node if node.op_type == "GEGLU")
    next(attribute for attribute in node.attribute if attribute.name == "plugin_version").s = b"2"
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    with pytest.raises(Internal, match="has 15 plugins for the 16 operators"):
        parse(library, path, exported.record)


def test_a_lost_name_is_an_error(export, library):
    exported = export("text_encoder")
    record = replace(exported.record, layers=(*exported.record.layers, "encoder.layers.7.weight"))
    with pytest.raises(Internal, match=r"does not know 1 weights .* 'encoder\.layers\.7\.weight'"):
        parse(library, exported.path, record)


def test_a_file_that_is_no_graph_is_an_error(export, library, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(Internal, match="cannot parse"):
        parse(library, path, export("text_encoder").record)


def test_a_step_says_what_it_found(export, library, begin):
    exported = export("text_encoder_2")
    layout = Layout(exported.path.parents[1])
    parse_networks([exported.subject], layout, library, begin)
    [said] = begin.values()
    assert said == [f"0 plugins, {len(exported.record.layers)} weights to refit"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="plans can be built here")
def test_plans_need_a_gpu(export, library, begin, tmp_path):
    with pytest.raises(Unavailable, match="torch sees none; the steps `scripts/build export parse` need none"):
        build_plans([export("text_encoder").subject], Layout(tmp_path), library, (), 4, begin)
