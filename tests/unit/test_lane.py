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
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lane import Lane
from swiftdiffusion.lane_configuration import LaneConfiguration
from swiftdiffusion.placement import Placement
from swiftdiffusion.request import images
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

CPU = Placement(torch.device("cpu"), torch.float32)
EDGES, SIZE = "controlnet_edges", 64
LONG_S = 10.0


class Services:
    """The models that a lane calls; `before` is what is done before one answers."""

    def __init__(self, adapters):
        common: dict[str, Any] = {"pipeline": pipeline_folder(), "adapters": Location(str(adapters))}
        self.controlnet = ControlNetService(ControlNetConfiguration(controlnet=controlnet_folder("edges")), CPU)
        self._services: dict[str, Any] = {
            "text_encoder": TextEncoderService(TextEncoderConfiguration(**common), CPU),
            "vae_decoder": VaeDecoderService(VaeDecoderConfiguration(pipeline=pipeline_folder()), CPU),
            EDGES: self.controlnet,
        }
        self.before: dict[str, Callable[[Any], object]] = {}
        self._threads = ThreadPoolExecutor(4)
        configuration = LaneConfiguration(**common, width=SIZE, height=SIZE, size_min=64, size_max=256)
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
    decode = images._decode_reference

    def decode_late(*args):
        assert asked.wait(LONG_S)
        return decode(*args)

    monkeypatch.setattr(images, "_decode_reference", decode_late)
    services.before["text_encoder"] = lambda _: asked.set()
    assert services.draw(**steer(encode_reference())).pixels.shape == (SIZE, SIZE, 3)


def test_controlnets_are_attached_while_prompts_are_encoded(services):
    sessions, attached = services.controlnet._sessions, []
    services.before["text_encoder"] = lambda _: attached.append(has_come(lambda: sessions))
    services.draw(**steer(encode_reference()))
    assert attached == [True]


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
