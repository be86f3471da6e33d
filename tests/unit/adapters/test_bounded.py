import copy
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from swiftdiffusion.adapters.bounded import BoundedLoras
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.pending import PendingLoras
from swiftdiffusion.adapters.weights import LoraWeights
from swiftdiffusion.errors import Cancelled, InvalidArgument, Unavailable

from .conftest import MakeLoader
from .lora_files import peft, write
from .reference import build_engines


class Request:
    """Two LoRAs that arrive when the test says so."""

    def __init__(self, pipeline: Any, weights: list[LoraWeights]) -> None:
        self.weights = weights
        self.futures: list[Future[LoraWeights]] = [Future() for _ in weights]
        self.patcher = Patcher(build_engines(copy.deepcopy(pipeline)))

    def begin(self, bound: int, check: Callable[[], None] = lambda: None) -> BoundedLoras:
        pending = PendingLoras(["a", "b"], [1.0, 0.5], self.futures)
        return BoundedLoras(pending, self.patcher, bound, timeout_s=0.1, check=check)

    def arrive(self, index: int) -> None:
        self.futures[index].set_result(self.weights[index])


@pytest.fixture
def request_(pipeline: Any, tmp_path: Any, make_loader: MakeLoader) -> Request:
    loader = make_loader()
    for seed, name in enumerate("ab"):
        write(tmp_path / f"{name}.safetensors", peft(pipeline, {"unet": {"conv_in": 4}}, seed))
    return Request(pipeline, [loader.load(name).result(10) for name in "ab"])


def test_each_takes_part_from_the_step_after_its_arrival(request_: Request) -> None:
    bounded = request_.begin(bound=9)
    bounded.settle(0)
    assert request_.patcher.applied == ()
    request_.arrive(1)
    bounded.settle(1)
    assert request_.patcher.applied == (("b", 0.5),)
    bounded.settle(2)
    request_.arrive(0)
    bounded.settle(3)
    assert request_.patcher.applied == (("a", 1.0), ("b", 0.5))
    assert [(use["name"], use["scale"], use["step"]) for use in bounded.describe()] == [
        ("a", 1.0, 3),
        ("b", 0.5, 1),
    ]


def test_no_step_after_the_bound_starts_without(request_: Request) -> None:
    bounded = request_.begin(bound=2)
    request_.arrive(0)
    bounded.settle(1)
    with pytest.raises(Unavailable, match=r"LoRA 'b' did not load within 0\.1 seconds"):
        bounded.settle(2)


def test_a_wait_ends_when_nobody_wants_the_picture(request_: Request) -> None:
    def give_up() -> None:
        raise Cancelled("The request was cancelled.")

    with pytest.raises(Cancelled):
        request_.begin(bound=0, check=give_up).settle(0)


def test_a_failed_load_fails_the_next_step(request_: Request) -> None:
    bounded = request_.begin(bound=9)
    request_.futures[0].set_exception(InvalidArgument("LoRA 'a' is cut short."))
    with pytest.raises(InvalidArgument):
        bounded.settle(1)
