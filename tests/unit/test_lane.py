"""What a lane does at the same time, with the services of `shapes` in this process."""

import io
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shapes.checkpoint import controlnet_folder, lora_file, pipeline_folder
from swiftdiffusion.configuration import Location
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.errors import InvalidArgument, NotFound, SwiftDiffusionError
from swiftdiffusion.lane import Lane
from swiftdiffusion.lane_configuration import LaneConfiguration
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.codec_threads import codec_threads
from swiftdiffusion.request.references import Reference
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

CPU = Placement(torch.device("cpu"), torch.float32)
EDGES, SIZE = "controlnet_edges", 64
LONG_S = 10.0


class Services:
    """The models that a lane calls; `before` is what is done before one answers."""

    def __init__(self, adapters, **parameters):
        common: dict[str, Any] = {"pipeline": pipeline_folder(), "adapters": Location(str(adapters))}
        self.controlnet = ControlNetService(ControlNetConfiguration(controlnet=controlnet_folder("edges")), CPU)
        self._services: dict[str, Any] = {
            "text_encoder": TextEncoderService(TextEncoderConfiguration(**common), CPU),
            "vae_decoder": VaeDecoderService(VaeDecoderConfiguration(pipeline=pipeline_folder()), CPU),
            EDGES: self.controlnet,
        }
        self.before: dict[str, Callable[[Any], object]] = {}
        self._threads = ThreadPoolExecutor(4)
        configuration = LaneConfiguration(**common, width=SIZE, height=SIZE, size_min=64, size_max=256, **parameters)
        catalogue = Catalogue(self.call, lambda: [EDGES], lambda _: True, "controlnet_", timeout_s=LONG_S)
        self.lane = Lane(configuration, CPU, self.call, catalogue)

    def call(self, model, _, inputs):
        def answer():
            self.before.get(model, lambda _: None)(inputs)
            return self._services[model].answer(inputs)

        return self._threads.submit(answer)

    def draw(self, **inputs):
        tensors = {"prompt": np.array([b"a red circle"], object), "steps": np.array([1], np.int32), **inputs}
        return self.lane.draw(self.lane.accept(tensors), lambda: None, None)

    def close(self):
        self.lane.close()
        self._threads.shutdown()
        for service in self._services.values():
            service.close()


@pytest.fixture
def services(tmp_path):
    services = Services(tmp_path)
    yield services
    services.close()


def steer(image):
    return {"controlnets": np.array([b"edges"], object), "control_images": np.array([image], object)}


def encode_reference():
    file = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (250, 10, 20)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def hosting(tmp_path):
    """Of a lane that runs the ControlNets of a folder itself."""
    services = Services(tmp_path, controlnets=controlnet_folder("edges").parent, controlnets_pinned="edges")
    yield services
    services.close()


def has_come(condition):
    """Whether it is true within a bound."""
    deadline = time.monotonic() + LONG_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def test_controlnets_end_while_the_latents_are_decoded(services):
    sessions, ended = services.controlnet._sessions, []
    services.before["vae_decoder"] = lambda _: ended.append(has_come(lambda: not sessions))
    services.before[EDGES] = lambda inputs: ended.append(bool(sessions)) if "sample" in inputs else None
    services.draw(**steer(encode_reference()))
    assert ended == [True, True]  # attached for its step, let go before there are pixels


def test_prompts_are_encoded_while_references_are_decoded(services, monkeypatch):
    asked = threading.Event()
    decode = Reference.decode

    def decode_late(reference):
        assert asked.wait(LONG_S)
        return decode(reference)

    monkeypatch.setattr(Reference, "decode", decode_late)
    services.before["text_encoder"] = lambda _: asked.set()
    assert services.draw(**steer(encode_reference())).pixels.shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"output_format": np.array([b"bmp"], object)},
        {"preview_every": np.array([-1], np.int32)},
        {"scheduler": np.array([b"LCMScheduler"], object), "steps": np.array([60], np.int32)},
        {"loras": np.array([b"nope"], object)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_no_reference_of_a_refused_request_is_decoded(services, monkeypatch, wrong):
    monkeypatch.setattr(codec_threads(), "submit", lambda *_: pytest.fail("submitted"))
    with pytest.raises(SwiftDiffusionError):
        services.draw(**steer(encode_reference()), **wrong)


def test_controlnets_are_attached_while_prompts_are_encoded(services):
    sessions, attached = services.controlnet._sessions, []
    services.before["text_encoder"] = lambda _: attached.append(has_come(lambda: sessions))
    services.draw(**steer(encode_reference()))
    assert attached == [True]


def test_a_lanes_own_controlnets_draw_what_a_services_do(services, hosting):
    plain = {"steps": np.array([4], np.int32), "seed": np.array([7], np.int64)}
    asked = {**plain, **steer(encode_reference()), "control_end": np.array([0.8], np.float32)}
    served, own = services.draw(**asked), hosting.draw(**asked)
    np.testing.assert_array_equal(own.pixels, served.pixels)
    assert not np.array_equal(own.pixels, hosting.draw(**plain).pixels)
    assert own.describe()["controlnets"] == [{"name": "edges", "model": "", "transport": "lane", "goes_first": False}]
    spans = hosting.draw(**asked, trace=np.array([True])).describe()["spans"]
    assert len([span for span in spans if span["name"] == "controlnet"]) == 3


def test_the_first_step_begins_while_a_lanes_own_controlnet_waits_for_its_reference(hosting, monkeypatch):
    encoded = threading.Event()
    decode, encoder = Reference.decode, hosting.lane._unets._twins[0].encoder
    run = type(encoder).__call__

    def decode_late(reference):
        assert encoded.wait(LONG_S)
        return decode(reference)

    def run_and_tell(engine, *inputs):
        results = run(engine, *inputs)
        if engine is encoder:
            encoded.set()
        return results

    monkeypatch.setattr(Reference, "decode", decode_late)
    monkeypatch.setattr(type(encoder), "__call__", run_and_tell)
    assert hosting.draw(**steer(encode_reference())).pixels.shape == (SIZE, SIZE, 3)


def test_a_broken_reference_is_refused_before_steps_in_which_it_does_not_act(hosting):
    steps = {"steps": np.array([10], np.int32), "control_start": np.array([0.7], np.float32)}
    accepted = hosting.lane.accept({"prompt": np.array([b"a"], object), **steer(encode_reference()[:60]), **steps})
    reports: list[Any] = []
    with pytest.raises(InvalidArgument, match="is not a whole"):
        hosting.lane.draw(accepted, lambda: None, reports.append)
    assert not reports


@pytest.mark.parametrize("end", [1.0, 0.01])
def test_a_broken_reference_of_a_lanes_own_controlnet_is_refused(hosting, end):
    broken = encode_reference()[:60]
    with pytest.raises(InvalidArgument, match=rf"control_images\[0\] \({len(broken)} bytes\) is not a whole"):
        hosting.draw(**steer(broken), control_end=np.array([end], np.float32))
    assert hosting.draw(**steer(encode_reference())).pixels.shape == (SIZE, SIZE, 3)


def test_a_lanes_own_controlnets_come_first_and_others_are_still_served(services, hosting):
    hosting.before[EDGES] = lambda _: pytest.fail("called")
    assert hosting.draw(**steer(encode_reference())).pixels.shape == (SIZE, SIZE, 3)
    both = {"controlnets": np.array([b"edges", b"layout"], object)}
    both["control_images"] = np.array([encode_reference()] * 2, object)
    assert [one["name"] for one in hosting.draw(**both).describe()["controlnets"]] == ["edges", "layout"]
    with pytest.raises(NotFound, match=r"controlnets names 'depth'; served: edges, layout"):
        hosting.before.clear()
        hosting.draw(controlnets=np.array([b"depth"], object), control_images=np.array([encode_reference()], object))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"controlnets_pinned": "depth"}, "'controlnets_pinned' names 'depth'; there are: edges, layout"),
     ({"controlnets_pinned": "edges", "controlnets_memory_mb": 0.125},
      r"'controlnets_memory_mb' is 0\.125; what 'controlnets_pinned' names needs"),
     ({"controlnets": None, "controlnets_pinned": "edges"}, "'controlnets_pinned' belong to 'controlnets'"),
     ({"controlnets": None, "controlnets_memory_mb": 1.0}, "'controlnets_pinned' belong to 'controlnets'"),
     ({"controlnets_memory_mb": -1.0}, "'controlnets_memory_mb' is -1")],
)  # fmt: skip
def test_what_a_lane_cannot_run_itself_is_refused_at_the_start(tmp_path, parameters, words):
    with pytest.raises(InvalidArgument, match=words):
        Services(tmp_path, **{"controlnets": controlnet_folder("edges").parent, **parameters})


def test_only_loras_that_change_prompts_are_told_to_the_text_encoder(services, tmp_path):
    for name in ("outline", "night"):  # the second one has a part for the text encoders
        shutil.copy(lora_file(name), tmp_path)
    told = []
    services.before["text_encoder"] = lambda inputs: told.append(
        {name: inputs[name].tolist() for name in ("loras", "lora_scales") if name in inputs}
    )
    scales = np.array([0.5, 0.75], np.float32)
    services.draw(loras=np.array([b"outline", b"night"], object), lora_scales=scales)
    services.draw(loras=np.array([b"outline"], object))
    assert told == [{"loras": [b"night"], "lora_scales": [0.75]}, {}]


@pytest.mark.parametrize("end", [1.0, 0.01])
def test_a_broken_reference_is_refused_before_the_first_step_whether_it_acts_or_not(services, end):
    services.before[EDGES] = lambda inputs: pytest.fail("a step") if "sample" in inputs else None
    broken = encode_reference()[:60]
    with pytest.raises(InvalidArgument, match=rf"control_images\[0\] \({len(broken)} bytes\) is not a whole"):
        services.draw(**steer(broken), control_end=np.array([end], np.float32))
    services.before.clear()
    assert services.draw(**steer(encode_reference())).pixels.shape == (SIZE, SIZE, 3)  # the lane goes on
