"""The shelf with real ControlNets of `shapes`, several under names of their own."""

import gc
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from shapes.checkpoint import controlnet_folder
from swiftdiffusion.controlnets.library import ControlNetLibrary
from swiftdiffusion.controlnets.shelf import Shelf
from swiftdiffusion.errors import Cancelled, InvalidArgument, NotFound, Unavailable
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.placement import NetworkConfiguration, Placement

CPU = Placement(torch.device("cpu"), torch.float32)
NAMES = ("a", "b", "c", "d")


class Watched(ControlNetLibrary):
    """A library that tells what it loaded, and can be held up."""

    def __init__(self, folder):
        super().__init__(folder, NetworkConfiguration(device="cpu"), 77, CPU)
        self.loaded: list[str] = []
        self.loading, self.may_load = 0, threading.Event()
        self.may_load.set()

    def load(self, name):
        self.loading += 1
        assert self.loading == 1, "one load at a time"
        try:
            self.may_load.wait(10)
            self.loaded.append(name)
            return super().load(name)
        finally:
            self.loading -= 1


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).symlink_to(controlnet_folder("edges"))
    return tmp_path


@pytest.fixture
def library(folder):
    return Watched(folder)


@pytest.fixture
def size(library):
    return library.measure("a")


def use(shelf, *names):
    for name in names:
        with shelf.lease(name, lambda: None, 30):
            pass


def test_bytes_are_those_of_the_parameters(library, size):
    network = load_controlnet(controlnet_folder("edges"), torch.float32)
    assert size == library.load("a").nbytes == sum(p.numel() * 4 for p in network.parameters())


def test_without_a_budget_all_stay(library):
    shelf = Shelf(library)
    use(shelf, "a", "b", "c", "a")
    assert library.loaded == ["a", "b", "c"]
    assert shelf.held() == ["b", "c", "a"]


def test_what_was_used_longest_ago_goes_first_and_is_freed(library, size):
    shelf = Shelf(library, 2 * size)
    with shelf.lease("a", lambda: None, 30) as item:
        gone = weakref.ref(next(iter(item.engine.parameters().values())))
    del item
    use(shelf, "b", "a", "c")
    assert shelf.held() == ["a", "c"]
    assert gone() is not None
    use(shelf, "b")
    assert shelf.held() == ["c", "b"]
    gc.collect()
    assert gone() is None
    assert library.loaded == ["a", "b", "c", "b"]


def test_pinned_ones_are_there_from_the_start_and_stay(library, size):
    shelf = Shelf(library, 2 * size, ["a"])
    assert library.loaded == ["a"]
    use(shelf, "b", "c", "d")
    assert shelf.held() == ["a", "d"]


def test_a_leased_one_stays(library, size):
    shelf = Shelf(library, 2 * size)
    with shelf.lease("a", lambda: None, 30):
        use(shelf, "b", "c")
        assert shelf.held() == ["a", "c"]


def test_a_budget_filled_by_others_is_told_and_waited_for(library, size):
    shelf = Shelf(library, 2 * size, ["a"])
    with ThreadPoolExecutor(1) as threads:
        with shelf.lease("b", lambda: None, 30):
            with pytest.raises(Unavailable, match=r"'c' found no room within 0\.1 s.*a \(.*pinned\), b \(.*in use\)"):
                use_quickly(shelf, "c")
            waiting = threads.submit(use, shelf, "c")
            time.sleep(0.1)
            assert not waiting.done()
        waiting.result(30)
    assert shelf.held() == ["a", "c"]


def use_quickly(shelf, name):
    with shelf.lease(name, lambda: None, 0.1):
        pass


def test_what_never_fits_is_refused_at_once(library, size):
    with pytest.raises(Unavailable, match=r"'a' needs .* and does not fit into"):
        use(Shelf(library, size - 1), "a")
    with pytest.raises(Unavailable, match=r"'b' needs .* beside the pinned a"):
        use(Shelf(library, 2 * size - 1, ["a"]), "b")


def test_pins_are_checked_at_the_start(library, size):
    with pytest.raises(InvalidArgument, match="'pinned' names 'x'; there are: a, b, c, d"):
        Shelf(library, 0, ["x"])
    with pytest.raises(InvalidArgument, match=r"'memory_mb' is .* what 'pinned' names needs"):
        Shelf(library, size, ["a", "b"])
    assert library.loaded == []


def test_two_who_want_the_same_load_it_once(library):
    shelf = Shelf(library)
    library.may_load.clear()
    calls = [0, 0]

    def lease(number):
        def waiting():
            calls[number] += 1

        with shelf.lease("a", waiting, 30) as item:
            return item

    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(lease, number) for number in range(2)]
        deadline = time.monotonic() + 10
        while min(calls) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        library.may_load.set()
        first, second = [future.result(30) for future in futures]
    assert first is second
    assert library.loaded == ["a"]
    assert min(calls) >= 2


@pytest.mark.parametrize("held_up", ["load", "measure"])
def test_others_are_used_while_one_is_on_its_way(library, monkeypatch, held_up):
    shelf, may_go_on, begun = Shelf(library), threading.Event(), threading.Event()
    use(shelf, "a")
    original = getattr(library, held_up)

    def hold_up(name):
        begun.set()
        assert may_go_on.wait(30)
        return original(name)

    monkeypatch.setattr(library, held_up, hold_up)
    with ThreadPoolExecutor(1) as threads:
        on_its_way = threads.submit(use, shelf, "b")
        assert begun.wait(30)
        use(shelf, "a")
        assert not on_its_way.done()
        may_go_on.set()
        on_its_way.result(30)
    assert sorted(shelf.held()) == ["a", "b"]


def test_who_waits_may_give_up_or_run_out_of_time(library):
    shelf = Shelf(library)
    library.may_load.clear()

    def give_up():
        raise Cancelled

    with pytest.raises(Cancelled), shelf.lease("a", give_up, 30):
        pass
    with pytest.raises(Unavailable, match=r"'a' was not loaded within 0\.1 s"):
        use_quickly(shelf, "a")
    library.may_load.set()
    use(shelf, "a")
    assert library.loaded == ["a"]  # the load that was begun was not for nothing


def test_a_load_that_fails_is_told_and_tried_again(folder, library):
    shelf = Shelf(library)
    (folder / "b").unlink()
    shutil.copytree(controlnet_folder("edges"), folder / "b")
    weights = folder / "b" / "diffusion_pytorch_model.safetensors"
    sound = weights.read_bytes()
    for damaged in (sound[: len(sound) // 2], None):
        weights.unlink() if damaged is None else weights.write_bytes(damaged)
        with pytest.raises(Unavailable, match="'b' cannot be loaded") as refusal:
            use(shelf, "b")
        assert str(folder) not in str(refusal.value)
    config = folder / "b" / "config.json"
    config.rename(folder / "away")
    with pytest.raises(NotFound, match="'b' is not here; served: a, c, d"):
        use(shelf, "b")
    (folder / "away").rename(config)
    weights.write_bytes(sound)
    use(shelf, "b")
    assert shelf.held() == ["b"]


def test_a_failing_load_frees_its_room(folder, library, size, monkeypatch):
    shelf = Shelf(library, size)
    load = library.load

    def fail(name):
        raise OSError("disk")

    monkeypatch.setattr(library, "load", fail)
    with pytest.raises(Unavailable, match="'a' cannot be loaded; the server's log says why"):
        use(shelf, "a")
    monkeypatch.setattr(library, "load", load)
    use(shelf, "b")
    assert shelf.held() == ["b"]


def test_new_folders_are_found(folder, library):
    shelf = Shelf(library)
    (folder / "e").symlink_to(controlnet_folder("layout"))
    (folder / ".hidden").symlink_to(controlnet_folder("layout"))
    (folder / "empty").mkdir()
    assert shelf.names() == ["a", "b", "c", "d", "e"]
    use(shelf, "e")


@pytest.mark.parametrize("name", ["../a", "", "a/../b", "/etc"])
def test_names_are_no_paths(library, name):
    with pytest.raises(NotFound, match="is not here"):
        use(Shelf(library), name)
