"""LoRAs into plans the way that serving puts them there, as far as that needs no GPU.

TensorRT's refitter runs on GPUs only. In its place is one with the rules that its documentation states, in host memory;
the patcher, the live weights, the checkpoint, its LoRAs and TensorRT's own `Weights` are real.
"""

from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.targets import Targets, is_layer
from swiftdiffusion.engines import refit
from swiftdiffusion.engines.tensorrt.library import load_tensorrt
from swiftdiffusion.engines.tensorrt.records import GraphRecord, PlanRecord
from swiftdiffusion.engines.tensorrt.refitting import LiveWeights, WeightRefitter
from swiftdiffusion.errors import Internal
from swiftdiffusion.networks.unet import load_unet

SHAPES = Path(__file__).resolve().parents[3] / "build" / "shapes" / "weights"
MERGED = (".to_q.weight", ".to_k.weight", ".to_v.weight")  # as the builder merges an attention's products


class DocumentedRefitter:
    """TensorRT's refitter by its documentation, for a plan that is a dictionary of tensors."""

    def __init__(self, plan, log):
        self._plan, self._given = plan, {}
        merged = sorted(name for name in plan if name.endswith(MERGED))
        self._groups = [set(names) for _, names in groupby(merged, key=lambda name: name.rpartition(".to_")[0])]
        assert {len(names) for names in self._groups} == {3}

    def get_weights_prototype(self, name):
        return SimpleNamespace(dtype=load_tensorrt("tensorrt_rtx").trt.float16)

    def set_named_weights(self, name, weights, location):
        if name not in self._plan or weights.size != self._plan[name].numel():
            return False
        self._given[name] = weights  # a pointer; what lies there is read at each refit
        return True

    def unset_named_weights(self, name):
        return self._given.pop(name, None) is not None

    def get_missing_weights(self):
        return [name for names in self._groups if names & self._given.keys() for name in names - self._given.keys()]

    def refit_cuda_engine_async(self, stream):
        if self.get_missing_weights():
            return False
        for name, weights in self._given.items():
            self._plan[name] = torch.from_numpy(weights.numpy().copy()).reshape(self._plan[name].shape)
        return True


class Plan:
    """What of an engine refitting needs; only the refitter writes what the plan holds."""

    def __init__(self, library, network):
        weights = network.weights()
        layers = tuple(name for name, weight in weights.items() if is_layer(name, tuple(weight.shape)))
        transposed = tuple(name for name in layers if weights[name].ndim == 2)
        graph = GraphRecord("unet", "", "", {}, "float16", (), (), transposed, layers, 0)
        record = PlanRecord(graph, "", "", (), layers)
        self._transposed = frozenset(transposed)
        self._held = {name: self._turn(name, weights[name].detach()).clone() for name in layers}
        self._live = LiveWeights(weights, record, torch.device("cpu"))
        self._refitter = WeightRefitter(library, self._held, self._live)

    def parameters(self):
        return self._live

    def weights_changed(self, names):
        self._refitter.refit(set(names), 0)

    def held(self):
        return {name: self._turn(name, weight) for name, weight in self._held.items()}

    def _turn(self, name, weight):
        return (weight.T if name in self._transposed else weight).contiguous()


@pytest.fixture(scope="module")
def library():
    trt = load_tensorrt("tensorrt_rtx").trt
    return SimpleNamespace(
        trt=SimpleNamespace(Refitter=DocumentedRefitter, Weights=trt.Weights, TensorLocation=trt.TensorLocation),
        log=None,
    )


@pytest.fixture
def make_plans(library):
    """Makes plans of both halves of the UNet."""
    return lambda: [Plan(library, half) for half in load_unet(SHAPES / "pipeline", torch.float16)]


@pytest.fixture(scope="module")
def loras():
    store = FolderStore(SHAPES / "loras")
    loader = LoraLoader(store, Targets.read(SHAPES / "pipeline"), ("unet",))
    try:
        first, second = loader.begin([store.find("night"), store.find("hatching")], [0.8, 1.0]).wait(60)
    finally:
        loader.close()
    return first, second


def equal(first, second):
    return all(torch.equal(one[name], two[name]) for one, two in zip(first, second, strict=True) for name in one)


def test_any_sequence_of_loras_leaves_what_a_fresh_plan_has(make_plans, loras):
    night, hatching = loras
    plans = make_plans()
    held: dict = {}
    patcher = Patcher({"unet": plans})
    for wanted in ((), (night,), (hatching,), (night, hatching), (night,), ()):
        patcher.apply(wanted)
        now = [plan.held() for plan in plans]
        fresh = make_plans()
        Patcher({"unet": fresh}).apply(wanted)
        assert equal(now, [plan.held() for plan in fresh])
        held[len(held)] = now
    assert equal(held[0], held[5]) and equal(held[1], held[4])
    assert not equal(held[0], held[1]) and not equal(held[1], held[2]) and not equal(held[1], held[3])


def test_what_a_patcher_writes_is_what_the_plan_gets(make_plans, loras):
    plans = make_plans()
    Patcher({"unet": plans}).apply(loras)
    for plan in plans:
        assert all(torch.equal(weight, plan.parameters()[name]) for name, weight in plan.held().items())


def test_merged_weights_keep_their_values_when_one_of_them_changes(make_plans):
    plan, _ = make_plans()
    before = plan.held()
    name = next(name for name in before if name.endswith(".to_q.weight"))
    others = [name.replace(".to_q.", part) for part in (".to_k.", ".to_v.")]
    refit(plan, {others[0]: before[others[0]] + 1})
    refit(plan, {name: before[name] + 1})  # the last time's change of its neighbour is no longer named
    changed = {n for n, weight in plan.held().items() if not torch.equal(weight, before[n])}
    assert changed == {name, others[0]}
    refit(plan, {n: before[n] for n in changed})
    assert equal([plan.held()], [before])


def test_a_weight_that_the_plan_cannot_change_is_refused_before_any_other_is_changed(make_plans):
    plan, _ = make_plans()
    before = plan.held()
    layer = next(iter(before))
    plan.parameters()[layer].zero_()
    with pytest.raises(Internal, match=r"was not built to refit 'conv_in\.bias'"):
        plan.weights_changed([layer, "conv_in.bias"])
    assert equal([plan.held()], [before])


def test_a_weight_of_another_size_is_refused(make_plans):
    plan, _ = make_plans()
    name = next(iter(plan.held()))
    plan._held[name] = plan._held[name][:1]
    with pytest.raises(Internal, match=r"does not take 'conv_in\.weight' as"):
        plan.weights_changed([name])
