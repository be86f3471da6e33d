import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.adapters.patching import CPU, Patcher
from swiftdiffusion.adapters.prepared import Slot
from swiftdiffusion.adapters.pristine import PristineWeights
from swiftdiffusion.adapters.weights import ScaledLora
from swiftdiffusion.errors import Internal

from .conftest import MakeLoader
from .lora_files import EVERYTHING, kohya, peft, write
from .reference import DECODER, Engine, build_engines, state


class Bench:
    """A copy of the pipeline with a patcher on it."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = copy.deepcopy(pipeline)
        self.engines = build_engines(self.pipeline)
        self.patcher = Patcher(self.engines)

    def state(self) -> dict[str, bytes]:
        return state(self.pipeline)

    def changes(self) -> int:
        return sum(engine.changes for parts in self.engines.values() for engine in parts)


@pytest.fixture
def bench(pipeline: Any) -> Bench:
    return Bench(pipeline)


@pytest.fixture
def loras(tmp_path: Path, pipeline: Any, make_loader: MakeLoader) -> dict[str, ScaledLora]:
    """A touches all networks, B other layers of the UNet as well as some of A's."""
    write(tmp_path / "a.safetensors", peft(pipeline, seed=1))
    some = {"conv_out": 4, "mid_block.resnets.0.conv1": 4, "mid_block.resnets.0.conv2": 4}
    write(tmp_path / "b.safetensors", kohya(pipeline, {"unet": some}, seed=2))
    pending = make_loader().begin(["a", "b"], [0.7, -1.3])
    return dict(zip("ab", pending.wait(10), strict=True))


def test_restores_bit_for_bit(bench: Bench, loras: dict[str, ScaledLora]) -> None:
    before = bench.state()
    assert bench.patcher.apply([loras["a"], loras["b"]])
    assert bench.patcher.applied == (("a", 0.7), ("b", -1.3))
    changed = {name for name, weight in bench.state().items() if weight != before[name]}
    touched = {f"{network}.{m}.weight" for network, modules in EVERYTHING.items() for m in modules}
    assert changed == touched | {"unet.mid_block.resnets.0.conv2.weight"}
    assert bench.patcher.restore()
    assert bench.patcher.applied == ()
    assert bench.state() == before


def test_history_leaves_no_trace(pipeline: Any, bench: Bench, loras: dict[str, ScaledLora]) -> None:
    a, b = loras["a"], loras["b"]
    for wanted in ([a], [b], [a, b], [], [b, a], [ScaledLora(a.weights, 0.1)], [b], [a, a]):
        bench.patcher.apply(wanted)
        fresh = Bench(pipeline)
        fresh.patcher.apply(wanted)
        assert bench.state() == fresh.state()


def test_the_same_set_again_costs_nothing(bench: Bench, loras: dict[str, ScaledLora]) -> None:
    assert not bench.patcher.restore()
    bench.patcher.apply([loras["a"]])
    changes = bench.changes()
    assert not bench.patcher.apply([loras["a"]])
    assert bench.changes() == changes
    assert bench.patcher.apply([ScaledLora(loras["a"].weights, 0.71)])


def test_each_engine_is_told_once(bench: Bench, loras: dict[str, ScaledLora]) -> None:
    bench.patcher.apply([loras["b"]])
    encoder, decoder = bench.engines["unet"]
    (text_encoder,) = bench.engines["text_encoder"]
    assert (encoder.changes, decoder.changes, text_encoder.changes) == (1, 1, 0)
    bench.patcher.apply([loras["a"]])
    assert (encoder.changes, decoder.changes, text_encoder.changes) == (2, 2, 1)


def test_every_copy_of_a_parameter_is_patched(pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    copies = [copy.deepcopy(pipeline.unet) for _ in range(2)]
    Patcher({"unet": [Engine(unet) for unet in copies]}).apply([loras["b"]])
    assert torch.equal(copies[0].conv_out.weight, copies[1].conv_out.weight)
    assert not torch.equal(copies[0].conv_out.weight, pipeline.unet.conv_out.weight)


class Twins:
    """Two copies of the pipeline's UNet, as a lane on two GPUs has them, with one patcher."""

    def __init__(self, pipeline: Any, pristine_on_host: bool) -> None:
        self.pipelines = [copy.deepcopy(pipeline) for _ in range(2)]
        self.engines = [engine for twin in self.pipelines for engine in build_engines(twin)["unet"]]
        self.patcher = Patcher({"unet": self.engines}, [CPU, CPU], pristine_on_host)


@pytest.fixture(params=[False, True], ids=["pristine on the device", "pristine on the host"])
def twins(pipeline: Any, request: pytest.FixtureRequest) -> Twins:
    return Twins(pipeline, request.param)


def test_history_leaves_no_trace_on_either_twin(pipeline: Any, twins: Twins, loras: dict[str, ScaledLora]) -> None:
    a, b = loras["a"], loras["b"]
    for wanted in ([a], [b], [a, b], [], [b, a], [ScaledLora(a.weights, 0.1)], []):
        before = [engine.changes for engine in twins.engines]
        twins.patcher.apply(wanted)
        assert [engine.changes for engine in twins.engines] == [changes + 1 for changes in before]
        fresh = copy.deepcopy(pipeline)
        Patcher({"unet": build_engines(fresh)["unet"]}).apply(wanted)
        assert [state(twin) for twin in twins.pipelines] == [state(fresh)] * 2


@pytest.mark.parametrize("broken", range(4))
def test_a_failure_of_one_twin_restores_both(
    broken: int, pipeline: Any, twins: Twins, loras: dict[str, ScaledLora], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(names: Any) -> None:
        monkeypatch.undo()
        raise RuntimeError("out of memory")

    twins.patcher.apply([loras["b"]])
    monkeypatch.setattr(twins.engines[broken], "weights_changed", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        twins.patcher.apply([loras["a"]])
    assert [state(twin) for twin in twins.pipelines] == [state(pipeline)] * 2
    assert twins.patcher.applied == ()
    assert twins.patcher.apply([loras["a"]])


def test_twins_share_a_pristine_copy_on_the_host_alone(pipeline: Any) -> None:
    weights = [torch.ones(4, 3), torch.ones(4, 3), torch.ones(3, 4).T]
    slots = [Slot(Engine(pipeline.unet), "a.weight", "unet", "a.weight") for _ in weights]
    for on_host, copies in ((True, 2), (False, 3)):  # one whose memory is laid out otherwise needs its own
        pristine = PristineWeights(on_host)
        kept = [pristine.keep(slot, weight) for slot, weight in zip(slots, weights, strict=True)]
        assert len({copy.data_ptr() for copy in kept} - {weight.data_ptr() for weight in weights}) == copies
        assert [copy.stride() for copy in kept] == [weight.stride() for weight in weights]


def test_networks_held_elsewhere_are_left_alone(pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    pipeline = copy.deepcopy(pipeline)
    before = state(pipeline)
    Patcher({"text_encoder": [Engine(pipeline.text_encoder)]}).apply([loras["a"]])
    changed = {name.split(".")[0] for name, weight in state(pipeline).items() if weight != before[name]}
    assert changed == {"text_encoder"}


def test_a_missing_parameter_changes_nothing(pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    pipeline = copy.deepcopy(pipeline)
    before = state(pipeline)
    patcher = Patcher({"unet": [Engine(pipeline.unet, DECODER)]})
    with pytest.raises(Internal, match="No engine of unet holds"):
        patcher.apply([loras["a"]])
    assert state(pipeline) == before


def test_half_precision_is_rounded_once(pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    unet = copy.deepcopy(pipeline.unet).half()
    base = unet.conv_out.weight.detach().clone()
    Patcher({"unet": [Engine(unet)]}).apply([loras["b"], loras["b"]])
    factors = loras["b"].weights.networks["unet"]["conv_out.weight"]
    assert factors.up is not None
    product = torch.einsum("or,rihw->oihw", factors.up[:, :, 0, 0].double(), factors.down.double())
    exact = base.double() + 2 * -1.3 * factors.strength * product
    assert (unet.conv_out.weight == exact.half()).float().mean() > 0.99  # ties may round either way in float32


def test_views_and_channels_last_weights_are_written_in_place(pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    expected = Bench(pipeline)
    pipeline = copy.deepcopy(pipeline)
    pipeline.unet.to(memory_format=torch.channels_last)
    merged = torch.cat([pipeline.unet.conv_out.weight.data, torch.ones(2, 8, 3, 3)])
    pipeline.unet.conv_out.weight.data = merged[:4]  # as an engine that merges weights has it
    pristine = state(pipeline)
    engine = Engine(pipeline.unet)
    patcher = Patcher({"unet": [engine]})
    for changes, wanted in enumerate(([loras["a"]], [loras["b"]], [loras["b"], loras["a"]], []), start=1):
        patcher.apply(wanted)
        expected.patcher.apply(wanted)
        for (name, ours), theirs in zip(
            pipeline.unet.named_parameters(), expected.pipeline.unet.parameters(), strict=True
        ):
            assert torch.equal(ours, theirs), name
        assert engine.changes == changes
    assert state(pipeline) == pristine
    assert (merged[4:] == 1).all()


def test_preparing_writes_nothing(pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    bench = Bench(pipeline)
    before = bench.state()
    with ThreadPoolExecutor(4) as threads:
        sets = [[loras["a"]], [loras["b"]], [loras["a"], loras["b"]]] * 4
        assert len(list(threads.map(bench.patcher.prepare, sets))) == 12
    assert bench.state() == before
    assert bench.patcher.applied == ()


class BrokenEngine(Engine):
    """Fails, with its weights written, as often as it is told."""

    failures = 0

    def weights_changed(self, names) -> None:
        super().weights_changed(names)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("out of memory")


@pytest.mark.parametrize("before_failure", ["", "a", "b"])
def test_a_failure_restores_the_base(before_failure: str, pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    pipeline = copy.deepcopy(pipeline)
    pristine = state(pipeline)
    broken = BrokenEngine(pipeline.unet, DECODER)
    engines = build_engines(pipeline)
    patcher = Patcher(engines | {"unet": [engines["unet"][0], broken]})
    patcher.apply([loras[name] for name in before_failure])
    broken.failures = 1
    with pytest.raises(RuntimeError, match="out of memory"):
        patcher.apply([loras["b"], loras["a"]])
    assert state(pipeline) == pristine
    assert patcher.applied == ()
    assert patcher.apply([loras["a"]])


def test_a_failure_of_the_restoring_too_is_made_good_by_the_next(pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    pipeline = copy.deepcopy(pipeline)
    pristine = state(pipeline)
    broken = BrokenEngine(pipeline.unet, DECODER)
    patcher = Patcher({"unet": [build_engines(pipeline)["unet"][0], broken]})
    broken.failures = 2
    with pytest.raises(RuntimeError):
        patcher.apply([loras["a"]])
    assert patcher.restore()
    assert state(pipeline) == pristine


def test_weights_that_an_engine_cannot_change_are_refused(pipeline: Any, loras: dict[str, ScaledLora]) -> None:
    class Fixed(Engine):
        def parameters(self) -> Any:
            return {name: weight.to("meta") for name, weight in super().parameters().items()}

    with pytest.raises(Internal, match="cannot change it"):
        Patcher({"unet": [Fixed(pipeline.unet)]}).apply([loras["b"]])
