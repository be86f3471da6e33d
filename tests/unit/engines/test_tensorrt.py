"""What of the tensorrt engine needs no GPU: records, stale plans, refusals, live weights."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from swiftdiffusion.engines import make_engine
from swiftdiffusion.engines.tensorrt.engine import complete_shapes, fill, require_fresh
from swiftdiffusion.engines.tensorrt.library import _load, load_tensorrt
from swiftdiffusion.engines.tensorrt.profiles import find_profile, read_ranges, require_size
from swiftdiffusion.engines.tensorrt.records import (
    GraphRecord,
    PlanRecord,
    Profile,
    Size,
    digest_configuration,
    digest_weights,
    read_graph_record,
    read_plan_record,
    write_record,
)
from swiftdiffusion.engines.tensorrt.refitting import LiveWeights
from swiftdiffusion.errors import Internal, InvalidArgument, Unavailable
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.networks.network import Network
from swiftdiffusion.networks.text_encoder import load_text_encoders
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.networks.vae_decoder import load_vae_decoder
from swiftdiffusion.networks.vae_encoder import load_vae_encoder
from swiftdiffusion.placement import NetworkConfiguration, Placement

CPU = torch.device("cpu")


class Product(Network):
    """One linear layer."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Product().half()


@pytest.fixture
def record(network):
    graph = GraphRecord(
        network="product",
        weights=digest_weights(network.weights()),
        configuration=digest_configuration(network.configuration),
        versions={"torch": torch.__version__},
        dtype="float16",
        inputs=("x",),
        outputs=("y",),
        transposed=("linear.weight",),
        layers=("linear.weight",),
        operators=0,
    )
    sizes = (Size(1, 64, 64), Size(2, 128, 128), Size(8, 256, 192))
    return PlanRecord(graph, "tensorrt 10.9.0", "GPU", (Profile("any", *sizes),), ("linear.weight",))


@pytest.fixture
def library():
    return load_tensorrt("tensorrt_rtx")


def test_records_are_read_as_they_were_written(record, tmp_path):
    path = tmp_path / "product.json"
    write_record(path, record)
    assert read_plan_record(path) == record
    write_record(path, record.graph)
    assert read_graph_record(path) == record.graph


@pytest.mark.parametrize("change", [
    lambda values: values.pop("gpu"),
    lambda values: values["graph"].update(surplus=1),
    lambda values: values.update(profiles=[{"name": "x"}]),
])  # fmt: skip
def test_a_record_of_another_version_is_refused(record, tmp_path, change):
    path = tmp_path / "product.json"
    write_record(path, record)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(InvalidArgument, match="not a record of this version; run `scripts/build engines` anew"):
        read_plan_record(path)


def test_a_digest_is_of_names_shapes_types_and_values():
    weights = {"a": torch.arange(6.0), "b": torch.zeros(2)}
    others = [
        {"a": torch.arange(6.0), "c": torch.zeros(2)},
        {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)},
        {"a": torch.arange(6.0), "b": torch.zeros(2, dtype=torch.int32)},
        {"a": torch.arange(6.0), "b": torch.tensor([0.0, 1e-8])},
    ]
    digests = {digest_weights(weights), *map(digest_weights, others)}
    assert len(digests) == 5
    assert digest_weights(dict(reversed(weights.items()))) == digest_weights(weights)


def test_a_stale_plan_is_refused(network, record, library, tmp_path):
    plan = tmp_path / "product.plan"
    record = replace(record, tensorrt=f"tensorrt_rtx {library.version}")
    require_fresh(record, plan, network, library, "GPU")
    with pytest.raises(InvalidArgument, match="stale: it was built for the GPU 'GPU', and here is 'another'"):
        require_fresh(record, plan, network, library, "another")
    with pytest.raises(InvalidArgument, match=r"built for the TensorRT 'tensorrt 10\.8\.0'"):
        require_fresh(replace(record, tensorrt="tensorrt 10.8.0"), plan, network, library, "GPU")
    with pytest.raises(InvalidArgument, match="built for the number type 'float16', and here is 'float32'"):
        require_fresh(record, plan, Product(), library, "GPU")
    network.configuration = {"scaling_factor": 0.2}
    with pytest.raises(InvalidArgument, match="stale: it was built from another configuration than this network's"):
        require_fresh(record, plan, network, library, "GPU")
    del network.configuration
    network.linear.bias.data[0] += 1
    with pytest.raises(InvalidArgument, match="stale: it was built from other weights than this network's; run"):
        require_fresh(record, plan, network, library, "GPU")


CHECKPOINT = Path(__file__).resolve().parents[3] / "build" / "shapes" / "weights"
CHANGES = {
    "text_encoder": ("layer_norm_eps", 1e-3, lambda folder: load_text_encoders(folder, torch.float16)[0]),
    "text_encoder_2": ("layer_norm_eps", 1e-3, lambda folder: load_text_encoders(folder, torch.float16)[1]),
    "unet": ("norm_eps", 1e-3, lambda folder: load_unet(folder, torch.float16)[1]),
    "vae": ("scaling_factor", 0.2, lambda folder: load_vae_decoder(folder, torch.float16)),
    "controlnet": ("norm_eps", 1e-3, lambda folder: load_controlnet(folder / "controlnet", torch.float16)),
}


@pytest.mark.parametrize("part", CHANGES)
def test_a_changed_configuration_has_another_digest_wherever_it_lies(part, tmp_path):
    def lay(place):
        folder = tmp_path / place
        shutil.copytree(CHECKPOINT / "pipeline", folder)
        shutil.copytree(CHECKPOINT / "controlnets" / "edges", folder / "controlnet")
        return folder

    def digest(folder):
        return digest_configuration(load(folder).configuration)

    key, value, load = CHANGES[part]
    first, moved = lay("first"), lay("moved")
    file = moved / part / "config.json"
    written = json.loads(file.read_text())
    file.write_text(json.dumps({**written, "_diffusers_version": "0.1.0", "transformers_version": "4.0.0"}))
    assert digest(moved) == digest(first)
    file.write_text(json.dumps({**written, key: value}))
    assert digest(moved) != digest(first)


def test_halves_of_a_network_have_its_configuration():
    halves = load_unet(CHECKPOINT / "pipeline", torch.float16)
    assert halves[0].configuration == halves[1].configuration
    assert halves[0].configuration["block_out_channels"]
    encoder, _ = load_vae_encoder(CHECKPOINT / "pipeline", torch.float16)
    assert encoder.configuration["scaling_factor"] == encoder.scaling_factor


def test_an_error_of_tensorrt_is_kept_for_the_sentence_that_tells_it(library, caplog):
    library.log.log(library.trt.ILogger.ERROR, "no kernel")
    library.log.log(library.trt.ILogger.INFO, "by the way")
    assert library.log.latest_error == "no kernel"
    assert "no kernel" in caplog.text


def test_live_weights_are_laid_out_as_in_the_checkpoint(network, record):
    live = LiveWeights(network.weights(), record, CPU)
    assert list(live) == list(network.weights()) and len(live) == 2
    weight = live["linear.weight"]
    assert torch.equal(weight, network.linear.weight)
    weight.copy_(torch.full((2, 3), 4.0))
    assert torch.equal(live.buffers["linear.weight"], torch.full((3, 2), 4.0, dtype=torch.float16))
    assert live.buffers["linear.weight"].is_contiguous()
    assert not torch.equal(network.linear.weight, weight)
    with pytest.raises(Internal, match=r"not built to refit 'linear\.bias'"):
        live.require_refittable("linear.bias")


def test_absent_residuals_have_the_shapes_of_skips_and_mid(record):
    names = ("mid", "skips.0", "skips.1", "residuals.0", "residuals.1", "residuals.2")
    record = replace(record, graph=replace(record.graph, inputs=names))
    given = {"mid": (1, 3), "skips.0": (2, 5), "skips.1": (2, 4)}
    assert list(complete_shapes(given, record).values()) == [(1, 3), (2, 5), (2, 4), (2, 5), (2, 4), (1, 3)]


def test_prompts_of_the_last_samples_alone_follow_zeros(record):
    record = replace(record, graph=replace(record.graph, inputs=("sample", "timestep", "prompt_embeds", "image")))
    given = {"sample": (2, 4, 8, 8), "timestep": (), "prompt_embeds": (1, 3, 5), "image": (1, 3, 64, 64)}
    shapes = complete_shapes(given, record)
    assert shapes == {**given, "prompt_embeds": (2, 3, 5)}
    place, prompt = torch.full(shapes["prompt_embeds"], 7.0), torch.rand(1, 3, 5)
    fill(place, prompt)
    assert torch.equal(place, torch.cat([torch.zeros(1, 3, 5), prompt]))
    fill(place, torch.ones(2, 3, 5))
    assert torch.equal(place, torch.ones(2, 3, 5))
    fill(place, None)
    assert not place.any()
    timestep = torch.zeros(())
    fill(timestep, torch.tensor(3.0))
    assert timestep == 3


def test_the_narrowest_profile_that_fits_is_taken():
    fixed = Profile("fixed", *[Size(2, 64, 64)] * 3)
    general = Profile("any", Size(1, 32, 32), Size(2, 64, 64), Size(8, 96, 96))
    ranges = [{"x": ((2, 64, 64), (2, 64, 64)), "t": ((), ())}, {"x": ((1, 32, 32), (8, 96, 96)), "t": ((), ())}]

    def find(*shape):
        return find_profile((fixed, general), ranges, {"x": shape, "t": ()})

    assert (find(2, 64, 64), find(2, 64, 56)) == (0, 1)
    assert find_profile((general, fixed), ranges[::-1], {"x": (2, 64, 64), "t": ()}) == 1  # in whatever order
    sentence = (
        r"'x' is \(9, 64, 64\); allowed: \(2, 64, 64\) to \(2, 64, 64\); "
        r"the profiles are fixed \(2x64x64\), any \(1x32x32 to 8x96x96\)"
    )
    with pytest.raises(InvalidArgument, match=sentence):
        find(9, 64, 64)


def test_a_size_that_no_profile_takes_is_known_beforehand(record):
    require_size(record.profiles, Size(2, 128, 192))
    sentence = (
        "2 samples of width 200 and height 128 fit no profile of the plan; allowed, as samples x height x width: "
        r"any \(1x64x64 to 8x256x192\)"
    )
    with pytest.raises(InvalidArgument, match=sentence):
        require_size(record.profiles, Size(2, 128, 200))


def test_ranges_are_the_plans_own():
    class Engine:  # deserialising one takes a GPU
        num_optimization_profiles = 2

        def get_tensor_profile_shape(self, name, place):
            return [(1 + place, 4), (2, 8), (8, 16 + place)]

    assert read_ranges(Engine(), ["x"]) == [{"x": ((1, 4), (8, 16))}, {"x": ((2, 4), (8, 17))}]


def test_the_engine_says_what_it_lacks(network, record, tmp_path):
    placement = Placement(CPU, torch.float16)
    with pytest.raises(InvalidArgument, match="'tensorrt', which needs parameter 'plans'"):
        make_engine("tensorrt", network, placement)
    plan = tmp_path / "product.plan"
    assert NetworkConfiguration(plans=tmp_path).plan("product") == plan
    assert NetworkConfiguration().plan("product") is None
    with pytest.raises(InvalidArgument, match=r"product\.json is not there; `scripts/build engines` writes it"):
        make_engine("auto", network, placement, plan=plan)
    write_record(plan.with_suffix(".json"), record)
    write_record(plan.with_suffix(".json"), replace(record, tensorrt="tensorrt_rtx 1.7"))
    with pytest.raises(Unavailable, match="runs on NVIDIA GPUs"):
        make_engine("auto", network, placement, plan=plan)


@pytest.mark.parametrize(("kind", "name"), [("auto", "TensorRT"), ("tensorrt_rtx", "tensorrt_rtx")])
def test_without_tensorrt_it_is_said_how_to_get_it(monkeypatch, kind, name):
    for module in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "tensorrt_rtx_libs"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    _load.cache_clear()
    try:
        with pytest.raises(Unavailable, match=rf"{name} is not installed\. TensorRT comes by `\.venv/bin/pip install"):
            load_tensorrt(kind)
    finally:
        _load.cache_clear()


def test_an_unknown_tensorrt_is_refused():
    with pytest.raises(InvalidArgument, match="kind is 'trt'; allowed: auto, tensorrt, tensorrt_rtx"):
        load_tensorrt("trt")
