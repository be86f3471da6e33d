"""What is read from a checkpoint's configurations before anything is exported."""

import json
import shutil

import onnx
import pytest
import torch

from swiftdiffusion.engines.tensorrt.records import Size, read_graph_record
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion_build.export.specification import flatten, picture_axes
from swiftdiffusion_build.export.step import export_networks
from swiftdiffusion_build.export.subjects import Checkpoint
from swiftdiffusion_build.layout import Layout


@pytest.mark.parametrize(("step", "level", "name", "length"), [
    (1, 0, "height", 1032),
    (8, 0, "height_8", 129),
    (8, 1, "height_16", 65),
    (8, 2, "height_32", 33),
])  # fmt: skip
def test_what_does_not_halve_evenly_is_rounded_up(step, level, name, length):
    axis, _ = picture_axes(step, level)
    assert (axis.name, axis.length(Size(1, 1032, 64))) == (name, length)


def test_two_controlnets_of_one_name_are_refused(checkpoint, tmp_path):
    twin = tmp_path / "edges"
    with pytest.raises(InvalidArgument, match=f"two ControlNets are called 'edges': .* and {twin}; allowed: folders"):
        Checkpoint(checkpoint.pipeline, (*checkpoint.controlnets, twin))
    with pytest.raises(InvalidArgument, match="two ControlNets are called 'edges'"):
        Checkpoint(checkpoint.pipeline, (twin, twin))


def test_a_vae_that_overflows_in_fp16_is_exported_in_fp32(checkpoint, tmp_path, begin):
    pipeline = tmp_path / "pipeline"
    shutil.copytree(checkpoint.pipeline, pipeline)
    path = pipeline / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "force_upcast": True}))
    subject, layout = Checkpoint(pipeline).subjects()["vae_encoder"], Layout(tmp_path)
    export_networks([subject], layout, begin)
    graph = onnx.load(layout.graph("vae_encoder")).graph
    assert flatten(subject.inputs)["image"].dtype == torch.float32
    assert read_graph_record(layout.graph("vae_encoder").with_suffix(".json")).dtype == "float32"
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert {types[name] for name in subject.load().weights()} == {onnx.TensorProto.FLOAT}
