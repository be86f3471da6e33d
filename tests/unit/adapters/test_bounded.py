import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from swiftdiffusion.adapters.bounded import BoundedLoras
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.store import AdapterFile
from swiftdiffusion.adapters.weights import LoraWeights, ScaledLora
from swiftdiffusion.errors import Cancelled, InvalidArgument, Unavailable

from .conftest import MakeLoader
from .lora_files import peft, write
from .reference import build_engines


class Request:
    """Two LoRAs that arrive when the test says so."""

    def __init__(self, pipeline: Any, loader: LoraLoader) -> None:
        self.loader = loader
        self.found = [loader.inspect(name) for name in "ab"]
        self.weights = [loader.load(lora.file).result(10) for lora in self.found]
        self.futures: dict[AdapterFile, Future[LoraWeights]] = {lora.file: Future() for lora in self.found}
        self.loader.load = lambda file: self.futures[file]  # type: ignore[method-assign]
        self.patcher = Patcher(build_engines(copy.deepcopy(pipeline)))

    def begin(self, bound: int, check: Callable[[], None] = lambda: None) -> BoundedLoras:
        return BoundedLoras(self.loader, self.patcher, self.found, [1.0, 0.5], bound, 0.1, check)

    def arrive(self, index: int) -> None:
        self.futures[self.found[index].file].set_result(self.weights[index])


@pytest.fixture
def request_(pipeline: Any, tmp_path: Any, make_loader: MakeLoader) -> Request:
    loader = make_loader()
    for seed, name in enumerate("ab"):
        write(tmp_path / f"{name}.safetensors", peft(pipeline, {"unet": {"conv_in": 4}}, seed))
    return Request(pipeline, loader)


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
    request_.futures[request_.found[0].file].set_exception(InvalidArgument("LoRA 'a' is cut short."))
    with pytest.raises(InvalidArgument):
        bounded.settle(1)


def test_the_same_set_stays_for_the_next_request(request_: Request) -> None:
    first = request_.begin(bound=0)
    assert not first.describe()[0]["kept"]
    request_.arrive(0)
    request_.arrive(1)
    first.settle(0)
    request_.futures.clear()  # nothing more can be loaded
    again = request_.begin(bound=0)
    again.settle(0)
    assert request_.patcher.applied == (("a", 1.0), ("b", 0.5))
    assert [(use["step"], use["load_seconds"], use["kept"]) for use in again.describe()] == [(0, 0.0, True)] * 2


def test_another_set_is_out_before_the_first_step(request_: Request) -> None:
    request_.arrive(0)
    request_.arrive(1)
    request_.begin(bound=0).settle(0)
    request_.futures = {lora.file: Future() for lora in request_.found}
    request_.found.reverse()
    request_.begin(bound=9).settle(0)
    assert request_.patcher.applied == ()


def test_who_waits_finds_all_prepared(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[str] = []
    prepare = request_.patcher.prepare

    def note(loras: Sequence[ScaledLora]) -> Any:
        prepared.append("".join(lora.name for lora in loras))
        return prepare(loras)

    monkeypatch.setattr(request_.patcher, "prepare", note)
    bounded = request_.begin(bound=9)
    request_.arrive(1)
    request_.arrive(0)
    assert prepared[-2:] == ["b", "ab"]
    bounded.settle(1)
    assert request_.patcher.applied == (("a", 1.0), ("b", 0.5))


def test_what_was_done_to_load_one_is_told_in_order(pipeline: Any, tmp_path: Any, make_loader: MakeLoader) -> None:
    write(tmp_path / "c.safetensors", peft(pipeline, {"unet": {"conv_in": 4}}, 3))
    loader, patcher = make_loader(), Patcher(build_engines(copy.deepcopy(pipeline)))

    def use() -> list[tuple[str, str, float, float]]:
        bounded = BoundedLoras(loader, patcher, [loader.inspect("c")], [1.0], 0, 10.0, lambda: None)
        bounded.settle(0)
        return list(bounded.spans())

    before = time.monotonic()
    spans = use()
    assert [(part, name) for part, name, _, _ in spans] == [("fetch", "c"), ("read and copy", "c")]
    times = [before, *(moment for _, _, start, end in spans for moment in (start, end)), time.monotonic()]
    assert times == sorted(times)
    assert spans[0][3] == spans[1][2]
    patcher.restore()
    assert use() == [], "the host cache had it, which on the CPU is the device"
