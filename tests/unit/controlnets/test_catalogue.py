import time
from concurrent.futures import Future

import numpy as np
import pytest

from swiftdiffusion.controlnets import catalogue as module
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.errors import Lost, Unavailable


class Server:
    """Models by name, each with the names that it tells, an error, or None where it hangs."""

    def __init__(self, **models):
        self.models, self.loaded, self.asked = models, set(models), []
        self.looks = 0  # whether one is loaded
        self.unusable = set()
        self.gpus = {}  # of those that run on one

    def call(self, model, contract, inputs):
        assert inputs == {}
        self.asked.append(model)
        future: Future = Future()
        told = self.models[model]
        if isinstance(told, Exception):
            future.set_exception(told)
        elif told is not None:
            names, gpu = np.array([name.encode() for name in told], object), self.gpus.get(model, "").encode()
            future.set_result({"names": names, "gpu": np.array([gpu], object)})
        return future

    def is_loaded(self, model):
        self.looks += 1
        return model in self.loaded

    def open(self, timeout_s=0.2):
        return Catalogue(
            self.call,
            lambda: sorted(self.models),
            self.is_loaded,
            "controlnet_",
            timeout_s,
            lambda model: model not in self.unusable,
        )


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "AGAIN_S", 0.05)
    monkeypatch.setattr(module, "LOOK_S", 0)


def test_a_model_is_asked_once_and_without_names_serves_its_own():
    server = Server(controlnet_edges=[], controlnet_many=["layout", "depth"])
    catalogue = server.open()
    assert catalogue.names(["edges"]) == ["depth", "edges", "layout"]
    assert catalogue.names(["depth"]) == ["depth", "edges", "layout"]
    assert server.asked == ["controlnet_edges", "controlnet_many"]
    assert catalogue.locate("edges") == "controlnet_edges"
    assert catalogue.locate("layout") == "controlnet_many"


def test_a_name_that_nobody_knows_is_asked_for_again_but_not_all_the_time():
    server = Server(controlnet_many=["layout"])
    catalogue = server.open()
    assert catalogue.names(["depth"]) == ["layout"]
    assert server.asked == ["controlnet_many"]  # just now
    server.models["controlnet_many"].append("depth")
    time.sleep(0.06)
    assert catalogue.names(["depth"]) == ["depth", "layout"]
    assert len(server.asked) == 2


def test_a_model_that_was_loaded_anew_is_asked_anew():
    server = Server(controlnet_many=["layout"])
    catalogue = server.open()
    catalogue.names()
    server.loaded.clear()
    assert catalogue.names(["layout"]) == ["layout"]  # it is known, if not there
    with pytest.raises(Unavailable, match="'layout' is not being served at the moment"):
        catalogue.require("layout")
    server.loaded.add("controlnet_many")
    server.models["controlnet_many"] = ["depth"]
    time.sleep(0.06)
    assert catalogue.names() == ["depth"]


def test_a_request_looks_once_at_the_models_that_it_needs(monkeypatch):
    server = Server(controlnet_edges=[], controlnet_layout=[], controlnet_many=["depth", "edges"])
    catalogue = server.open()
    catalogue.names()
    time.sleep(0.06)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    server.looks = 0
    for _ in range(2):
        catalogue.names(["edges"])
        catalogue.require("edges")
    assert server.looks == 2
    server.loaded.remove("controlnet_edges")
    time.sleep(0.06)
    assert catalogue.locate("edges") == catalogue.locate("edges") == "controlnet_many"
    assert server.looks == 4


def test_several_that_serve_one_take_turns():
    server = Server(controlnet_one=["edges"], controlnet_two=["edges"])
    catalogue = server.open()
    catalogue.names()
    assert [catalogue.locate("edges") for _ in range(4)] == ["controlnet_one", "controlnet_two"] * 2
    server.unusable.add("controlnet_one")
    assert {catalogue.locate("edges") for _ in range(4)} == {"controlnet_two"}
    server.unusable.add("controlnet_two")
    with pytest.raises(Unavailable, match="'edges'"):
        catalogue.locate("edges")


def test_one_on_the_wanted_gpu_is_preferred():
    server = Server(controlnet_one=["edges"], controlnet_two=["edges", "layout"])
    server.gpus = {"controlnet_one": "GPU-a", "controlnet_two": "GPU-b"}
    catalogue = server.open()
    catalogue.names()
    assert {catalogue.locate("edges", "GPU-b") for _ in range(3)} == {"controlnet_two"}
    assert {catalogue.locate("edges", "GPU-a") for _ in range(3)} == {"controlnet_one"}
    assert catalogue.locate("layout", "GPU-a") == "controlnet_two"  # better there than nowhere
    assert {catalogue.locate("edges", "GPU-c") for _ in range(2)} == {"controlnet_one", "controlnet_two"}
    server.unusable.add("controlnet_one")
    assert catalogue.locate("edges", "GPU-a") == "controlnet_two"


def test_a_model_that_hangs_is_waited_for_once():
    server = Server(controlnet_edges=[], controlnet_hung=None)
    catalogue = server.open()
    start = time.monotonic()
    assert catalogue.names(["edges"]) == ["edges", "hung"]
    assert 0.2 <= time.monotonic() - start < 1
    for _ in range(3):
        time.sleep(0.06)
        start = time.monotonic()
        catalogue.names(["nobody's"])
        assert time.monotonic() - start < 0.15
    assert server.asked.count("controlnet_hung") == 1


def test_a_model_that_fails_keeps_its_names_and_is_asked_again():
    server = Server(controlnet_edges=Lost("dead"))
    catalogue = server.open()
    assert catalogue.names() == ["edges"]
    server.models["controlnet_edges"] = ["contours"]
    time.sleep(0.06)
    assert catalogue.names() == ["contours"]


def test_a_model_that_is_gone_is_forgotten():
    server = Server(controlnet_edges=[], controlnet_layout=[])
    catalogue = server.open()
    catalogue.names()
    del server.models["controlnet_layout"]
    assert catalogue.names() == ["edges"]
