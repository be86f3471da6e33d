import errno
import gc
import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from swiftdiffusion.adapters import folder_store, loading
from swiftdiffusion.adapters.pending import PendingLoras
from swiftdiffusion.errors import InvalidArgument, NotFound, SwiftDiffusionError, Unavailable

from .conftest import MakeLoader
from .lora_files import kohya, peft, write


@pytest.fixture
def lora(tmp_path: Path, pipeline: Any) -> Path:
    return write(tmp_path / "ink.safetensors", peft(pipeline))


class Gate:
    """Holds every read back until opened, and counts them."""

    def __init__(self, read: Callable[..., Any]) -> None:
        self._read = read
        self._open = threading.Event()
        self.started = threading.Semaphore(0)
        self.count = 0

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        self.started.release()
        assert self._open.wait(10)
        return self._read(*args)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate(loading.read_weights)
    monkeypatch.setattr(loading, "read_weights", gate)
    return gate


def test_inspecting_reads_the_header_alone(lora: Path, gate: Gate, make_loader: MakeLoader) -> None:
    assert make_loader().inspect("ink").layout.networks == {"unet", "text_encoder", "text_encoder_2"}
    assert gate.count == 0


def test_files_of_one_form_have_one_layout(tmp_path: Path, pipeline: Any, make_loader: MakeLoader) -> None:
    """Whatever their values; but not where the metadata gives another strength."""
    tensors = peft(pipeline)
    write(tmp_path / "ink.safetensors", tensors)
    write(tmp_path / "coal.safetensors", {name: tensor + 1 for name, tensor in tensors.items()})
    strong = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 64})}
    save_file(tensors, tmp_path / "strong.safetensors", strong)
    loader = make_loader()
    ink, coal, strong_ink = (loader.inspect(name).layout for name in ("ink", "coal", "strong"))
    assert ink is coal
    assert [layer.strength for layer in ink.layers] != [layer.strength for layer in strong_ink.layers]
    assert [layer.keys for layer in ink.layers] == [layer.keys for layer in strong_ink.layers]


def test_loading_does_not_block_and_waiting_does_not_spin(lora: Path, gate: Gate, make_loader: MakeLoader) -> None:
    pending = make_loader().begin(["ink"], [0.5])
    assert pending.arrived == ()
    processor = time.process_time()
    assert not pending.arrive_within(0.2)
    with pytest.raises(Unavailable, match=r"LoRA 'ink' did not load within 0\.1 seconds"):
        pending.wait(0.1)
    assert time.process_time() - processor < 0.1
    assert pending.seconds == (None,)
    gate.open()
    (loaded,) = pending.wait(10)
    assert pending.arrived == (loaded,)
    assert (loaded.name, loaded.scale) == ("ink", 0.5)
    (seconds,) = pending.seconds
    assert seconds is not None and seconds >= 0.3
    time.sleep(0.01)
    assert pending.seconds == (seconds,)


def test_two_requests_load_one_file_once(lora: Path, gate: Gate, make_loader: MakeLoader) -> None:
    loader = make_loader()
    with ThreadPoolExecutor(8) as requests:
        futures = list(requests.map(loader.load, ["ink"] * 8))
    gate.open()
    assert len({id(future.result(10)) for future in futures}) == 1
    assert gate.count == 1


def test_what_was_loaded_is_kept(lora: Path, gate: Gate, make_loader: MakeLoader) -> None:
    gate.open()
    loader = make_loader()
    first = loader.load("ink").result(10)
    again = loader.begin(["ink"], [1.0])
    assert again.arrive_within(0)
    assert again.wait(0)[0].weights is first
    assert gate.count == 1


def test_a_changed_file_is_loaded_anew(lora: Path, pipeline: Any, make_loader: MakeLoader) -> None:
    loader = make_loader()
    first = loader.load("ink").result(10)
    write(lora, kohya(pipeline, seed=3))
    second = loader.load("ink").result(10)
    assert first.file != second.file
    assert not torch.equal(
        first.networks["unet"]["conv_in.weight"].down, second.networks["unet"]["conv_in.weight"].down
    )


def test_memory_is_bounded(tmp_path: Path, pipeline: Any, gate: Gate, make_loader: MakeLoader) -> None:
    gate.open()
    for name in "abc":
        write(tmp_path / f"{name}.safetensors", peft(pipeline))
    size = make_loader().load("a").result(10).nbytes
    loader = make_loader(cache_bytes=2 * size)
    before = gate.count
    for name in "abab" + "c" + "b" + "a":  # c drops a, so only the last a is read again
        loader.load(name).result(10)
    assert gate.count - before == 4


def test_what_nobody_wants_any_more_is_gone_at_once(lora: Path, make_loader: MakeLoader) -> None:
    """Not when Python next looks for circles: each is some hundred megabytes, on the host and on the GPU."""
    loader = make_loader(cache_bytes=0)
    gc.disable()
    try:
        pending = loader.begin(["ink"], [1.0], lambda loras: None)
        (arrived,) = pending.wait(10)
        weights = weakref.ref(arrived.weights)
        del pending, arrived
        deadline = time.monotonic() + 10
        while weights() is not None:  # the thread that loaded it lets go of it last
            assert time.monotonic() < deadline, "it waits for a collection"
            time.sleep(0.001)
    finally:
        gc.enable()


def test_threads_are_bounded(tmp_path: Path, pipeline: Any, gate: Gate, make_loader: MakeLoader) -> None:
    names = [f"lora{number}" for number in range(6)]
    for name in names:
        write(tmp_path / f"{name}.safetensors", peft(pipeline))
    pending = make_loader(threads=2).begin(names, [1.0] * 6)
    assert gate.started.acquire(timeout=10)
    assert gate.started.acquire(timeout=10)
    assert not gate.started.acquire(timeout=0.1)
    gate.open()
    assert [lora.name for lora in pending.wait(10)] == names


def test_only_the_asked_networks_are_read(lora: Path, make_loader: MakeLoader) -> None:
    weights = make_loader(networks=("text_encoder", "text_encoder_2")).load("ink").result(10)
    assert weights.networks.keys() == {"text_encoder", "text_encoder_2"}
    assert weights.networks["text_encoder"].keys() == {
        "encoder.layers.0.self_attn.q_proj.weight",
        "encoder.layers.0.self_attn.out_proj.weight",
        "encoder.layers.1.mlp.fc1.weight",
        "encoder.layers.1.mlp.fc2.weight",
    }


def test_no_loras_are_ready_at_once(make_loader: MakeLoader) -> None:
    pending = make_loader().begin([], [])
    assert pending.arrive_within(0)
    assert pending.wait(0) == ()
    assert pending.seconds == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["lora_up.weight", "alpha"])
def test_refuses_values_that_are_not_finite(
    part: str, value: float, tmp_path: Path, pipeline: Any, make_loader: MakeLoader
) -> None:
    tensors = kohya(pipeline)
    key = next(key for key in tensors if key.endswith(part))
    tensors[key].view(-1)[0] = value
    write(tmp_path / "ink.safetensors", tensors)
    with pytest.raises(InvalidArgument, match=f"LoRA 'ink' has a value in '{key}' that is infinite or not a number"):
        make_loader().load("ink").result(10)


def test_refuses_a_file_cut_short(lora: Path, make_loader: MakeLoader) -> None:
    lora.write_bytes(lora.read_bytes()[:-100])
    loader = make_loader()
    for attempt in (loader.inspect, lambda name: loader.load(name).result(10)):
        with pytest.raises(InvalidArgument, match="LoRA 'ink' is cut short"):
            attempt("ink")


def test_a_failure_is_not_kept(lora: Path, make_loader: MakeLoader) -> None:
    loader = make_loader()
    whole = lora.read_bytes()
    lora.write_bytes(whole[:-100])
    with pytest.raises(InvalidArgument):
        loader.load("ink").result(10)
    lora.write_bytes(whole)
    assert loader.load("ink").result(10)


def test_a_file_that_changes_while_it_is_read(lora: Path, gate: Gate, make_loader: MakeLoader) -> None:
    pending = make_loader().begin(["ink"], [1.0])
    assert gate.started.acquire(timeout=10)
    lora.write_bytes(lora.read_bytes()[:-100])
    gate.open()
    with pytest.raises(Unavailable, match="changed while"):
        pending.wait(10)


def test_a_file_that_vanishes(lora: Path, gate: Gate, make_loader: MakeLoader) -> None:
    loader = make_loader()
    pending = loader.begin(["ink"], [1.0])
    assert gate.started.acquire(timeout=10)
    lora.unlink()
    gate.open()
    with pytest.raises(NotFound):
        pending.wait(10)
    with pytest.raises(NotFound):
        loader.begin(["ink"], [1.0])


def test_a_file_that_may_not_be_read(lora: Path, make_loader: MakeLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(folder_store, "read_header", refuse)
    with pytest.raises(Unavailable, match="LoRA 'ink' cannot be read: Permission denied"):
        make_loader().inspect("ink")


def test_one_failure_does_not_wait_for_the_others(
    tmp_path: Path, lora: Path, gate: Gate, pipeline: Any, make_loader: MakeLoader
) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04K\x01.")
    pending = make_loader().begin(["ink", "bad"], [1.0, 1.0])
    with pytest.raises(InvalidArgument, match="LoRA 'bad' is not a safetensors file"):
        pending.wait(10)
    assert pending.arrive_within(0)
    gate.open()


def test_unknown_names_are_refused_before_anything_loads(lora: Path, gate: Gate, make_loader: MakeLoader) -> None:
    with pytest.raises(NotFound, match="which has: ink"):
        make_loader().load("paint")
    assert gate.count == 0


def test_closing_ends_the_threads_and_fails_what_waits(
    tmp_path: Path, lora: Path, gate: Gate, pipeline: Any, make_loader: MakeLoader
) -> None:
    write(tmp_path / "second.safetensors", peft(pipeline))
    loader = make_loader(threads=1)
    running, queued = loader.load("ink"), loader.load("second")
    assert gate.started.acquire(timeout=10)
    closing = threading.Thread(target=loader.close)
    closing.start()
    time.sleep(0.05)
    gate.open()
    closing.join(10)
    assert not closing.is_alive()
    assert running.result(0)
    with pytest.raises(Unavailable, match="shutting down"):
        PendingLoras(["second"], [1.0], [queued]).wait(10)
    with pytest.raises(Unavailable, match="shutting down"):
        loader.load("ink")


def test_closing_waits_a_bounded_time_for_a_load_that_hangs(
    lora: Path, gate: Gate, make_loader: MakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "CLOSE_S", 0.1)
    loader = make_loader()
    running = loader.load("ink")
    assert gate.started.acquire(timeout=10)
    closing = threading.Thread(target=loader.close, daemon=True)
    closing.start()
    closing.join(5)
    assert not closing.is_alive() and not running.done()
    gate.open()
    with pytest.raises(Unavailable, match="shutting down"):
        running.result(10)


def test_many_threads_at_once(tmp_path: Path, pipeline: Any, make_loader: MakeLoader) -> None:
    names = [f"lora{number}" for number in range(5)]
    for name in names:
        write(tmp_path / f"{name}.safetensors", peft(pipeline, {"unet": {"conv_in": 4}}))
    (tmp_path / "bad.safetensors").write_bytes(b"no LoRA")
    loader = make_loader(cache_bytes=3000)

    def request(number: int) -> bool:
        chosen = [names[number % 5], "bad"] if number % 7 == 0 else [names[number % 5], names[number % 3]]
        try:
            return len(loader.begin(chosen, [1.0, 1.0]).wait(10)) == 2
        except SwiftDiffusionError:
            return number % 7 == 0

    with ThreadPoolExecutor(16) as requests:
        assert all(requests.map(request, range(300)))
