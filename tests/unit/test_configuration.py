from dataclasses import dataclass
from pathlib import Path

import pytest

from swiftdiffusion.configuration import Location, read_configuration
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lane_configuration import LaneConfiguration


@dataclass(frozen=True)
class Sample:
    folder: Path
    count: int = 3
    scale: float = 0.5
    fast: bool = False


def read(**parameters):
    return read_configuration(Sample, parameters, Path("/repository"))


def test_texts_become_typed_fields():
    assert read(folder="../weights", count="7", scale="1.5", fast="true") == Sample(Path("/weights"), 7, 1.5, True)


def test_an_absolute_path_stays():
    assert read(folder="/elsewhere").folder == Path("/elsewhere")


@dataclass(frozen=True)
class Sampled:
    adapters: Location


@pytest.mark.parametrize(
    ("text", "location", "remote"),
    [
        ("../loras", "/loras", False),
        ("/loras", "/loras", False),
        ("https://host/loras", "https://host/loras", True),
        ("s3://bucket/loras", "s3://bucket/loras", True),
    ],
)
def test_a_location_is_a_folder_or_an_address(text, location, remote):
    read = read_configuration(Sampled, {"adapters": text}, Path("/repository")).adapters
    assert (read, read.is_remote) == (location, remote)


def test_tritons_own_parameters_are_left_alone():
    assert read(folder="x", FORCE_CPU_ONLY_INPUT_TENSORS="no").count == 3


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"folder": "x", "cuont": "7"}, ["'cuont'", "count"]),
        ({}, ["'folder'", "missing"]),
        ({"folder": "x", "count": "many"}, ["'count'", "'many'", "int"]),
        ({"folder": "x", "fast": "yes"}, ["'fast'", "'yes'", "true, false"]),
    ],
)
def test_what_is_wrong_is_named(parameters, words):
    with pytest.raises(InvalidArgument) as refusal:
        read(**parameters)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"width": 5000},
        {"width": 1020},
        {"scheduler": "Euler"},
        {"output_format": "gif"},
        {"guidance_scale": -1.0},
        {"guidance_scale_max": float("inf")},
        {"scale_max": -1.0},
        {"scale_max": float("nan")},
        {"prompt_max": -5},
        {"size_max": 40_000},
        {"prompt_max": 2501},
        {"image_bytes_max": -1},
        {"threads": -3},
        {"lora_timeout_s": 0.0},
    ],
)
def test_a_lane_refuses_parameters_that_cannot_work(wrong):
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        LaneConfiguration(pipeline=Path(), adapters=Location("."), **wrong)
