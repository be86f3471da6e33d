"""Calls to other models, with Triton's side played by Python: its stub is not to be had outside a server."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from swiftdiffusion.errors import Internal, InvalidArgument, Lost, Unavailable
from swiftdiffusion.signature import Port, Signature
from swiftdiffusion.triton_bridge import caller as module
from swiftdiffusion.triton_bridge.caller import Caller

CONTRACT = Signature(inputs=(), outputs=(Port("out", "TYPE_FP32", (-1,)),))


class Triton:
    """What a caller uses of ``triton_python_backend_utils``; a model named `hung` never answers."""

    def __init__(self, message=None):
        self.over, self.message, self.hanging = threading.Event(), message, 0

    def Tensor(self, name, array):  # noqa: N802
        return SimpleNamespace(name=lambda: name, as_numpy=lambda: array)

    def InferenceRequest(self, model_name, requested_output_names, inputs, parameters):  # noqa: N802
        def answer():
            if model_name == "hung":
                self.hanging += 1
                self.over.wait(30)
            return SimpleNamespace(
                has_error=lambda: self.message is not None,
                error=lambda: SimpleNamespace(message=lambda: self.message),
                output_tensors=lambda: [self.Tensor("out", inputs[0].as_numpy() + 1)],
            )

        return SimpleNamespace(exec=answer)


def test_a_model_that_hangs_takes_no_threads_from_others(monkeypatch):
    monkeypatch.setattr(module, "CLOSE_S", 0.1)
    triton = Triton()
    caller = Caller(triton, 2)
    hung = [caller.call("hung", CONTRACT, {}) for _ in range(5)]
    for number in range(5):
        answer = caller.call("well", CONTRACT, {"in": np.full(1, number, np.float32)}).result(5)
        assert answer["out"].tolist() == [number + 1]
    assert triton.hanging <= 2
    assert not any(future.done() for future in hung)
    caller.close()
    triton.over.set()


@pytest.mark.parametrize(
    ("message", "family", "sentence"),
    [
        ("Stub process 'edges_0' is not healthy.", Lost, "the process of model 'edges' has died"),
        ("Request for unknown model: 'edges' is not ready", Unavailable, "model 'edges' is not being served"),
        ("Exceeds maximum queue size", Unavailable, "Exceeds maximum queue size"),
        ("INVALID_ARG: width is 3", InvalidArgument, "width is 3"),
        ("INVALID_ARG: scheduler is 'not ready'", InvalidArgument, "scheduler is 'not ready'"),
        ("UNAVAILABLE: ControlNet 'edges' was not ready within 2 s", Unavailable, "ControlNet 'edges' was not ready"),
        ("something else", Internal, "something else"),
    ],
)
def test_errors_are_this_projects_own(message, family, sentence):
    caller = Caller(Triton(message), 1)
    with pytest.raises(family, match=sentence) as error:
        caller.call("edges", CONTRACT, {}).result(5)
    assert type(error.value) is family
    caller.close()
