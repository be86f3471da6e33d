"""Networks of `shapes` as ONNX files: what they compute, and what their parameters are called."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import nn

from swiftdiffusion.engines.tensorrt.records import Size
from swiftdiffusion.networks.network import Network
from swiftdiffusion_build.export.specification import BATCH, TensorSpecification, flatten
from swiftdiffusion_build.export.step import export_networks
from swiftdiffusion_build.export.subjects import Subject
from swiftdiffusion_build.export.tracing import make_inputs, trace
from swiftdiffusion_build.layout import Layout

SIZES = (Size(2, 128, 96), Size(1, 104, 160))  # latents of 26 do not halve evenly twice
OPERATORS = {"unet_encoder": 16, "unet_decoder": 21, "controlnet_edges": 16, "vae_decoder": 18, "vae_encoder": 12}


@torch.inference_mode()
def test_onnxruntime_computes_what_pytorch_does(exported):
    network = exported.subject.load().eval()
    session = onnxruntime.InferenceSession(exported.path)
    for size in SIZES:
        inputs = make_inputs(exported.subject.inputs, size, torch.Generator().manual_seed(1))
        expected = network(*inputs)
        tensors = [tensor for given in inputs for tensor in (given if isinstance(given, list) else [given])]
        fed = {name: tensor.numpy() for name, tensor in zip(exported.record.inputs, tensors, strict=True)}
        results = session.run(list(exported.record.outputs), fed)
        for result, reference in zip(results, expected if isinstance(expected, tuple) else [expected], strict=True):
            reference = reference.float().numpy()
            assert np.abs(result - reference).max() <= 5e-3 * np.abs(reference).max()


def test_parameters_keep_their_names_and_values(exported):
    graph = onnx.load(exported.path).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = exported.subject.load().weights()
    assert weights.keys() <= held.keys()
    for name, weight in weights.items():
        expected = weight.detach().numpy()
        assert np.array_equal(held[name], expected.T if name in exported.record.transposed else expected), name


def test_every_layer_that_a_lora_can_change_is_recorded(exported):
    weights = exported.subject.load().weights()
    layers = {
        name for name, w in weights.items() if name.endswith("weight") and w.ndim > 1 and "embeddings" not in name
    }
    assert set(exported.record.layers) == (layers if exported.subject.takes_loras else set())


def test_groupnorm_silu_and_geglu_are_ours(exported):
    nodes = onnx.load(exported.path).graph.node
    own = [node.op_type for node in nodes if node.domain == "swiftdiffusion"]
    assert len(own) == exported.record.operators == OPERATORS.get(exported.subject.name, 0)
    assert not {"GroupNormalization", "InstanceNormalization", "Erf"} & {node.op_type for node in nodes}


def test_shapes_are_dynamic(exported):
    graph = onnx.load(exported.path, load_external_data=False).graph
    for tensor in graph.input:
        dimensions = tensor.type.tensor_type.shape.dim
        expected = flatten(exported.subject.inputs)[tensor.name].axes()
        assert {place: d.dim_param for place, d in enumerate(dimensions) if d.dim_param} == expected


def test_a_decoders_inputs_are_the_encoders_outputs(checkpoint):
    subjects = checkpoint.subjects()
    size = SIZES[1]
    with torch.inference_mode():
        outputs = subjects["unet_encoder"].load()(*make_inputs(subjects["unet_encoder"].inputs, size))
    shapes = dict(zip(subjects["unet_encoder"].outputs, (tuple(o.shape) for o in outputs), strict=True))
    inputs = {name: tensor.shape(size) for name, tensor in flatten(subjects["unet_decoder"].inputs).items()}
    assert {name: inputs[name] for name in shapes} == shapes


def test_parameters_with_the_same_values_stay_apart():
    class Twins(Network):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            return self.second(self.first(x))

    network = Twins()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    network = network.half()
    subject = Subject("twins", lambda: network, {"x": TensorSpecification((BATCH, 3, 6), torch.float16)}, ("y",))
    model = trace(network, subject).model
    assert network.weights().keys() <= model.graph.initializers.keys()


def test_a_file_is_written_anew_only_for_other_weights_or_another_configuration(checkpoint, tmp_path, begin):
    subject, layout = checkpoint.subjects()["text_encoder"], Layout(tmp_path)
    path = layout.graph("text_encoder")
    export_networks([subject], layout, begin)
    written = path.stat().st_mtime_ns

    export_networks([subject], layout, begin)
    assert path.stat().st_mtime_ns == written

    def change_weight(network):
        next(network.parameters()).data[0] += 1

    def change_configuration(network):
        network.configuration = {**network.configuration, "layer_norm_eps": 1e-3}

    for change in (change_weight, change_configuration):

        def load(change=change):
            network = subject.load()
            change(network)
            return network

        export_networks([replace(subject, load=load)], layout, begin)
        assert path.stat().st_mtime_ns > written
        written = path.stat().st_mtime_ns
