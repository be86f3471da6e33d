"""What the `controlnet` backend takes for its configuration, and names."""

import numpy as np
import pytest
import torch

from shapes.checkpoint import controlnet_folder
from swiftdiffusion.configuration import read_configuration, split_names
from swiftdiffusion.errors import InvalidArgument, NotFound
from swiftdiffusion.placement import Placement
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService

CPU = Placement(torch.device("cpu"), torch.float32)
EDGES = controlnet_folder("edges")


def read(**parameters):
    return read_configuration(ControlNetConfiguration, parameters, EDGES.parent)


def names(service):
    return [name.decode() for name in service.answer({})["names"]]


def make_attaching(name):
    texts = {"session": np.array([b"0" * 32], object), "controlnet": np.array([name.encode()], object)}
    return {**texts, "timesteps": np.zeros(1, np.float32)}


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
