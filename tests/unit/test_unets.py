"""What the UNets of a lane can draw."""

import numpy as np
import pytest
import torch

from shapes.checkpoint import pipeline_folder
from swiftdiffusion.configuration import Location
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.engines.torch_engine import TorchEngine
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lane import Lane, LaneConfiguration
from swiftdiffusion.placement import NetworkConfiguration, Placement
from swiftdiffusion.unets import UNets

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def asked(monkeypatch):
    """What engines were asked for; they were made for nothing higher than 128 pixels."""
    sizes = []

    def require_size(engine, batch, height, width):
        sizes.append((batch, height, width))
        if height > 128:
            raise InvalidArgument("too high")

    monkeypatch.setattr(TorchEngine, "require_size", require_size)
    return sizes


@pytest.mark.parametrize(
    ("placements", "guided", "wanted"),
    [([CPU], True, [(2, 128, 96)] * 2), ([CPU], False, [(1, 128, 96)] * 2), ([CPU, CPU], True, [(1, 128, 96)] * 4)],
)
def test_every_engine_is_asked_for_its_share(placements, guided, wanted, asked):
    UNets(pipeline_folder(), NetworkConfiguration(engine="torch"), placements).require_size(guided, 128, 96)
    assert asked == wanted


def test_what_an_engine_was_not_made_for_is_refused_before_any_work(asked, tmp_path):
    def call(*_):
        pytest.fail("a model was called")

    configuration = LaneConfiguration(
        pipeline=pipeline_folder(), adapters=Location(str(tmp_path)), width=128, height=128, size_min=64, size_max=256
    )
    lane = Lane(configuration, CPU, call, Catalogue(call, list, bool, "controlnet_", timeout_s=2))
    prompt = {"prompt": np.array([b"a circle"], dtype=np.object_)}
    lane.accept(prompt)
    with pytest.raises(InvalidArgument, match="too high"):
        lane.accept(prompt | {"height": np.array([136], dtype=np.int32)})
    assert asked[-1] == (2, 136, 128)
    lane.close()
