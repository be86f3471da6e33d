"""The tensorrt engine from its record to its results, and used by several threads at once."""

import gc
import threading
import time
from functools import partial

import pytest
import torch
from tests.unit.engines.fake_tensorrt import Cuda, Library, Plan, Premises

from swiftdiffusion.engines import refit
from swiftdiffusion.engines.tensorrt import engine as engine_module
from swiftdiffusion.engines.tensorrt.engine import EXECUTIONS, TensorRtEngine
from swiftdiffusion.engines.tensorrt.records import (
    GraphRecord,
    PlanRecord,
    Profile,
    Size,
    digest_configuration,
    digest_weights,
    write_record,
)
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.network import Network
from swiftdiffusion.placement import Placement

LOOK_S = 0.1  # how long a thread that must stay outside is given to come in
BOUND_S = 20.0
PLACEMENT = Placement(torch.device("cpu"), torch.float16)
OTHER = {"linear.weight": torch.ones(2, 3, dtype=torch.float16)}
PROFILES = tuple(Profile(name, Size(low, 8, 8), Size(high, 8, 8), Size(high, 8, 8)) for name, low, high in (
    ("any", 1, 8),
    ("fixed", 2, 2),
))  # fmt: skip


class Product(Network):
    """One linear layer."""

    steady = 1

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, 2)
        self.configuration = {"scaling_factor": 0.5}

    def prepare(self, x):
        return x

    def step(self, x):
        return self.linear(x)


@pytest.fixture
def premises():
    premises = Premises()
    yield premises
    assert premises.trespassers == []


@pytest.fixture
def make_engine(premises, monkeypatch, tmp_path):
    """Makes engines of one network and its plan."""
    cuda = Cuda(premises)
    cuda.install(monkeypatch)
    plans: dict[bytes, Plan] = {}
    monkeypatch.setattr(engine_module, "load_tensorrt", lambda kind: Library(plans))

    def make(network=None, premises=premises):
        network, own = network or Product().half(), Product().half()
        path = tmp_path / f"{len(plans)}.plan"
        path.write_bytes(path.name.encode())
        plans[path.name.encode()] = Plan(own, [(p.low.batch, p.high.batch) for p in PROFILES], cuda, premises)
        graph = GraphRecord(
            network="product",
            weights=digest_weights(own.weights()),
            configuration=digest_configuration(own.configuration),
            versions={},
            dtype="float16",
            inputs=("x",),
            outputs=("y",),
            transposed=("linear.weight",),
            layers=("linear.weight",),
            operators=0,
        )
        record = PlanRecord(graph, "tensorrt 10.9.0", "GPU", PROFILES, ("linear.weight",))
        write_record(path.with_suffix(".json"), record)
        return TensorRtEngine(network, PLACEMENT, path)

    return make


@pytest.fixture
def threads():
    """Begins work on threads; all must end, and none may fail."""
    begun, errors = [], []

    def begin(work):
        def run():
            try:
                work()
            except BaseException as error:
                errors.append(error)

        begun.append(threading.Thread(target=run, daemon=True))
        begun[-1].start()

    yield begin
    for thread in begun:
        thread.join(BOUND_S)
    assert not any(thread.is_alive() for thread in begun)
    assert errors == []


def draw(rows, seed=1):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed)).half()


def compute(x, weights=None):
    """What the network gives."""
    network = Product().half()
    network.load_state_dict(weights or {}, strict=False)
    with torch.inference_mode():
        return network(x)


def assert_near(result, expected):
    assert torch.allclose(result, expected, rtol=0, atol=2e-3)


def test_a_plan_runs_is_refitted_and_restored(make_engine):
    engine, x = make_engine(), draw(3)
    base = engine.parameters()["linear.weight"].clone()
    for _ in range(2):
        assert_near(engine(x), compute(x))
    refit(engine, OTHER)
    assert_near(engine(x), compute(x, OTHER))
    refit(engine, {"linear.weight": base})
    assert_near(engine(draw(3, seed=2)), compute(draw(3, seed=2)))


def test_each_call_takes_the_narrowest_profile_that_fits(make_engine, premises):
    engine = make_engine()
    for rows in (2, 3, 1):
        engine(draw(rows))
    assert [said for said in premises.log if said.startswith("profile")] == ["profile 1", "profile 0", "profile 0"]


def test_a_plan_of_another_configuration_is_refused(make_engine):
    network = Product().half()
    network.configuration = {"scaling_factor": 0.25}
    with pytest.raises(InvalidArgument, match="is stale: it was built from another configuration"):
        make_engine(network)


def test_an_open_session_sees_weights_that_change_meanwhile(make_engine):
    engine, x = make_engine(), draw(2)
    session = engine.open(x)
    before = session.step()
    refit(engine, OTHER)
    after = session.step()
    assert_near(before, compute(x))  # a copy: later steps leave it alone
    assert_near(after, compute(x, OTHER))


ACTIONS = {
    "call": lambda engine: engine(draw(2)),
    "other sizes": lambda engine: engine(draw(5)),
    "step": lambda engine: engine.open(draw(2)).step(),
    "refit": lambda engine: refit(engine, OTHER),
}


@pytest.mark.parametrize("second", ACTIONS)
@pytest.mark.parametrize("place", ["run", "capture", "replay", "refit"])
def test_a_thread_waits_until_another_has_enqueued(make_engine, premises, threads, place, second):
    engine = make_engine()
    done = threading.Event()
    engine.parameters()["linear.weight"]

    def act():
        ACTIONS[second](engine)
        done.set()

    def meanwhile():
        began = len(premises.log)
        threads(act)
        assert not done.wait(LOOK_S)
        assert premises.log[began:] == []

    premises.meanwhile[place] = meanwhile
    ACTIONS["refit" if place == "refit" else "step"](engine)
    assert place in premises.log
    assert done.wait(BOUND_S)


def test_one_engine_captures_at_a_time(make_engine, premises, threads):
    first, second = make_engine(), make_engine(premises=Premises())
    done = threading.Event()

    def act():
        second(draw(2))
        done.set()

    def meanwhile():
        threads(act)
        assert not done.wait(LOOK_S)

    premises.meanwhile["capture"] = meanwhile
    first(draw(2))
    assert done.wait(BOUND_S)


def test_sessions_step_while_weights_change(make_engine, threads):
    engine = make_engine()
    base = {"linear.weight": engine.parameters()["linear.weight"].clone()}
    xs = {rows: draw(rows) for rows in range(1, 8)}  # more sizes than are kept
    expected = {rows: [compute(x), compute(x, OTHER)] for rows, x in xs.items()}
    started, stepping = threading.Barrier(3), [1, 4]

    def step(first):
        started.wait(BOUND_S)
        for rows in (*range(first, 8), *range(1, first)) * 6:
            result = engine.open(xs[rows]).step()
            assert any(torch.allclose(result, one, rtol=0, atol=2e-3) for one in expected[rows])
        stepping.remove(first)

    def change():
        started.wait(BOUND_S)
        deadline = time.monotonic() + BOUND_S
        while stepping and time.monotonic() < deadline:
            refit(engine, OTHER)
            refit(engine, base)

    for work in (change, partial(step, 1), partial(step, 4)):
        threads(work)


def test_an_execution_goes_only_when_its_work_is_done(make_engine, premises):
    engine = make_engine()
    for rows in range(1, EXECUTIONS + 1):
        engine(draw(rows))
    assert "waited" not in premises.log and "context gone" not in premises.log
    engine(draw(EXECUTIONS + 1))
    gc.collect()
    assert [said for said in premises.log if said in ("waited", "context gone")] == ["waited", "context gone"]
