"""What the `text_encoder` backend takes."""

import numpy as np
import pytest
import torch

from shapes.checkpoint import pipeline_folder
from swiftdiffusion.configuration import Location
from swiftdiffusion.errors import InvalidArgument, SwiftDiffusionError
from swiftdiffusion.placement import Placement
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def service(tmp_path):
    configuration = TextEncoderConfiguration(
        pipeline=pipeline_folder(), adapters=Location(str(tmp_path)), prompts_max=2, prompt_max=20, loras_max=1
    )
    service = TextEncoderService(configuration, CPU)
    yield service
    service.close()


def encode(service, *prompts):
    return service.answer({"prompts": np.array([prompt.encode() for prompt in prompts], object)})


def test_prompts_become_embeddings_once(service):
    first, second = encode(service, "a red circle", "é" * 20), encode(service, "é" * 20)
    assert first["hidden"].shape[0] == first["pooled"].shape[0] == 2
    assert (first["cached"].tolist(), second["cached"].tolist()) == ([False, False], [True])
    assert np.array_equal(first["hidden"][1], second["hidden"][0])


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ((), "prompts has 0 texts; allowed: 1 to 2"),
        (("a", "b", "c"), "prompts has 3 texts; allowed: 1 to 2"),
        (("a", "é" * 21), r"prompts\[1\] has 21 characters; at most 20 are read"),
    ],
)
def test_too_many_or_too_long_prompts_are_refused_and_not_remembered(service, prompts, words):
    with pytest.raises(InvalidArgument, match=words):
        encode(service, *prompts)
    if prompts:
        assert encode(service, prompts[0])["cached"].tolist() == [False]


def test_more_loras_than_are_allowed_are_refused_before_one_is_looked_for(service):
    for names, words in ((["a", "b"], "loras has 2 names; at most 1 are allowed"), (["a"], "'a'")):
        with pytest.raises(SwiftDiffusionError, match=words):
            service.answer({"prompts": np.array([b"a"], object), "loras": np.array(names, object)})


def test_a_length_must_be_possible(tmp_path):
    with pytest.raises(InvalidArgument, match="'prompt_max' is 0; it must lie in"):
        TextEncoderConfiguration(pipeline=pipeline_folder(), adapters=Location(str(tmp_path)), prompt_max=0)
