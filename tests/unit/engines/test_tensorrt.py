"""What of the tensorrt engine needs no GPU: records, stale plans, refusals, live weights."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from swiftdiffusion.engines import make_engine
from swiftdiffusion.engines.tensorrt.engine import complete_shapes, require_fresh
from swiftdiffusion.engines.tensorrt.library import _load, load_tensorrt
from swiftdiffusion.engines.tensorrt.profiles import find_profile, read_ranges
from swiftdiffusion.engines.tensorrt.records import (
    GraphRecord,
    PlanRecord,
    Profile,
    Size,
    digest_weights,
    read_graph_record,
    read_plan_record,
    write_record,
)
from swiftdiffusion.engines.tensorrt.refitting import LiveWeights
from swiftdiffusion.errors import Internal, InvalidArgument, Unavailable
from swiftdiffusion.networks.network import Network
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
    with pytest.raises(InvalidArgument, match="not a record of this version; run `scripts/build` anew"):
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
    weights, plan = network.weights(), tmp_path / "product.plan"
    record = replace(record, tensorrt=f"tensorrt_rtx {library.version}")
    require_fresh(record, plan, weights, library, "GPU")
    with pytest.raises(InvalidArgument, match="stale: it was built for the GPU 'GPU', and here is 'another'"):
        require_fresh(record, plan, weights, library, "another")
    with pytest.raises(InvalidArgument, match=r"built for the TensorRT 'tensorrt 10\.8\.0'"):
        require_fresh(replace(record, tensorrt="tensorrt 10.8.0"), plan, weights, library, "GPU")
    with pytest.raises(InvalidArgument, match="built for the number type 'float16', and here is 'float32'"):
        require_fresh(record, plan, Product().weights(), library, "GPU")
    weights["linear.bias"].data[0] += 1
    with pytest.raises(InvalidArgument, match="built for the weights"):
        require_fresh(record, plan, weights, library, "GPU")


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


def test_the_first_profile_that_fits_is_taken():
    fixed = Profile("fixed", *[Size(2, 64, 64)] * 3)
    general = Profile("any", Size(1, 32, 32), Size(2, 64, 64), Size(8, 96, 96))
    ranges = [{"x": ((2, 64, 64), (2, 64, 64)), "t": ((), ())}, {"x": ((1, 32, 32), (8, 96, 96)), "t": ((), ())}]

    def find(*shape):
        return find_profile((fixed, general), ranges, {"x": shape, "t": ()})

    assert (find(2, 64, 64), find(2, 64, 56)) == (0, 1)
    sentence = (
        r"'x' is \(9, 64, 64\); allowed: \(2, 64, 64\) to \(2, 64, 64\); "
        r"the profiles are fixed \(2x64x64\), any \(1x32x32 to 8x96x96\)"
    )
    with pytest.raises(InvalidArgument, match=sentence):
        find(9, 64, 64)


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
    with pytest.raises(InvalidArgument, match=r"product\.json is not there; `scripts/build` writes it"):
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
        with pytest.raises(Unavailable, match=rf"{name} is not installed\. TensorRT comes with NVIDIA's containers"):
            load_tensorrt(kind)
    finally:
        _load.cache_clear()


def test_an_unknown_tensorrt_is_refused():
    with pytest.raises(InvalidArgument, match="kind is 'trt'; allowed: auto, tensorrt, tensorrt_rtx"):
        load_tensorrt("trt")
