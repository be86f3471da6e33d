"""The checks of `scripts/check-tensorrt`, on torch engines: that they find what is wrong, and nothing else."""

import pytest
import torch

from swiftdiffusion.engines.tensorrt.records import Size
from swiftdiffusion.engines.torch_engine import TorchEngine
from swiftdiffusion.placement import Placement
from swiftdiffusion_build.checking import check_refits, compare, draw_inputs, measure, run

CPU = torch.device("cpu")
SIZE = Size(2, 64, 64)


class Leaky(TorchEngine):
    """Adds to what is there, as does an engine that does not start from the base weights."""

    def __init__(self, network, placement):
        super().__init__(network, placement)
        self._former = {name: weight.clone() for name, weight in self.parameters().items()}

    def weights_changed(self, names):
        for name in names:
            self._former[name].add_(self.parameters()[name]).div_(2)
            self.parameters()[name].copy_(self._former[name])


class Deaf(TorchEngine):
    """Goes on with the weights that it was made of, as does a graph that was captured before."""

    def parameters(self):
        return {name: weight.clone() for name, weight in super().parameters().items()}


@pytest.fixture(scope="module")
def subject(checkpoint):
    return checkpoint.subjects()["unet_encoder"]


def refits_of(kind, subject):
    inputs = draw_inputs(subject, SIZE, CPU)
    return check_refits(subject, lambda s: kind(s.load(), Placement(CPU, s.dtype)), inputs, tolerance=5e-3)


def test_a_right_engine_passes(subject):
    findings = refits_of(TorchEngine, subject)
    assert (findings.changed, findings.exact, findings.right) == (True, True, True)


def test_a_trace_of_former_weights_is_found(subject):
    findings = refits_of(Leaky, subject)
    assert (findings.changed, findings.exact, findings.right) == (True, False, False)


def test_weights_that_never_arrive_are_found(subject):
    findings = refits_of(Deaf, subject)
    assert (findings.changed, findings.exact, findings.right) == (False, True, False)


def test_a_difference_is_relative_to_the_largest_value():
    assert compare([torch.tensor([1.0, 9.9])], [torch.tensor([1.0, 10.0])]) == pytest.approx(0.01, abs=1e-6)
    assert compare([torch.tensor([1.0, float("nan")])], [torch.tensor([1.0, 10.0])]) == float("inf")


def test_inputs_are_the_same_at_each_call(subject):
    engine = TorchEngine(subject.load(), Placement(CPU, subject.dtype))
    first, second = (run(engine, draw_inputs(subject, SIZE, CPU)) for _ in range(2))
    assert compare(first, second) == 0


def test_a_measured_call_is_run_and_its_time_is_in_milliseconds():
    calls = []
    assert 0 <= measure(lambda: calls.append(1), CPU) < 1000
    assert len(calls) > 1
