"""What the `controlnet` backend takes for its configuration, and names."""

import numpy as np
import pytest
import torch

from shapes.checkpoint import controlnet_folder
from swiftdiffusion.configuration import read_configuration, split_names
from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable
from swiftdiffusion.lifeline import Lifeline
from swiftdiffusion.placement import Placement
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService

CPU = Placement(torch.device("cpu"), torch.float32)
EDGES = controlnet_folder("edges")


def read(**parameters):
    return read_configuration(ControlNetConfiguration, parameters, EDGES.parent)


def names(service):
    return [name.decode() for name in service.answer({})["names"]]


def make_attaching(name, token="0" * 32, steps=1):
    texts = {"session": np.array([token.encode()], object), "controlnet": np.array([name.encode()], object)}
    return {**texts, "timesteps": np.zeros(steps, np.float32)}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "neither is given"),
        ({"controlnet": "edges", "controlnets": "."}, "both are given"),
        ({"controlnet": "edges", "memory_mb": "100"}, "'memory_mb' and 'pinned' belong to 'controlnets'"),
        ({"controlnet": "edges", "pinned": "edges"}, "'memory_mb' and 'pinned' belong to 'controlnets'"),
        ({"controlnets": ".", "name": "edges"}, "'name' belongs to 'controlnet'"),
        ({"controlnets": ".", "memory_mb": "-1"}, "'memory_mb' is -1"),
        ({"controlnets": ".", "load_timeout_s": "0"}, "'load_timeout_s' is 0"),
        ({"controlnets": ".", "prompt_tokens": "0"}, "'prompt_tokens' is 0"),
        ({"controlnets": ".", "prompt_tokens": "1000000"}, "'prompt_tokens' is 1000000"),
    ],
)
def test_what_cannot_be_is_refused(parameters, words):
    with pytest.raises(InvalidArgument, match=words):
        read(**parameters)


def test_one_alone_leaves_its_name_to_the_model():
    assert names(ControlNetService(read(controlnet="edges"), CPU)) == []


def test_one_alone_can_be_given_another_name():
    assert names(ControlNetService(read(controlnet="edges", name="outlines"), CPU)) == ["outlines"]


def test_those_of_a_folder_are_named_and_the_pinned_ones_loaded():
    configuration = read(controlnets=".", pinned=" layout, edges ,")
    assert split_names(configuration.pinned) == ["layout", "edges"]
    service = ControlNetService(configuration, CPU)
    assert names(service) == ["edges", "layout"]
    with pytest.raises(NotFound, match="controlnet is 'depth'; served: edges, layout"):
        service.answer(make_attaching("depth"))
    service.close()


def test_a_pinned_one_must_be_there():
    with pytest.raises(InvalidArgument, match="'pinned' names 'depth'; there are: edges, layout"):
        ControlNetService(read(controlnets=".", pinned="depth"), CPU)


@pytest.fixture(scope="module")
def service():
    return ControlNetService(read(controlnet="edges"), CPU)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (make_attaching("edges", "x"), "session is 'x'; 32 hexadecimal digits are allowed"),
        (make_attaching("edges", ""), "session is ''; 32 hexadecimal digits are allowed"),
        (make_attaching("edges", steps=0), r"timesteps has shape \[0\]; allowed: \[1 to 10000\]"),
        (make_attaching("edges", steps=10_001), r"timesteps has shape \[10001\]; allowed"),
        (make_attaching("edges") | {"timesteps": np.zeros((1, 1), np.float32)}, r"timesteps has shape \[1, 1\]"),
        (make_attaching("edges") | {"session": np.array([], object)}, "session is ''"),
        (make_attaching("edges") | {"session": np.array([b"0" * 32] * 2, object)}, "session has 2 values"),
        ({"session": np.array([b"0" * 32], object)}, "attaching needs the inputs controlnet, timesteps too"),
    ],
)
def test_what_cannot_be_attached_is_refused(service, inputs, words):
    with pytest.raises(InvalidArgument, match=words):
        service.answer(inputs)
    assert not service._sessions


def test_a_step_of_a_request_that_is_not_attached_is_refused(service):
    with pytest.raises(Unavailable, match="not attached"):
        service.answer({"session": np.array([b"x"], object), "sample": np.zeros((1, 4, 8, 8), np.float32)})


def test_a_request_is_attached_once(service):
    with Lifeline() as lifeline:
        service.answer(make_attaching("edges", lifeline.token))
        assert lifeline.is_taken(10)
        with pytest.raises(InvalidArgument, match=r"session is '.*', which is attached already"):
            service.answer(make_attaching("edges", lifeline.token))
        assert lifeline.end(10)
