"""What the UNets of a lane can draw."""

import numpy as np
import pytest
import torch

from shapes.checkpoint import lora_file, pipeline_folder
from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.configuration import Location
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.engines.torch_engine import TorchEngine
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lane import Lane
from swiftdiffusion.lane_configuration import LaneConfiguration
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


class Guided:
    """The UNet of `shapes`, patched with LoRAs, and what it predicts of a guidance batch."""

    def __init__(self, *placements):
        self.unets = UNets(pipeline_folder(), NetworkConfiguration(engine="torch"), placements)
        self.patcher = Patcher({"unet": self.unets.patched}, placements)

    def predict(self, *loras):
        self.patcher.apply(loras)
        return self.unets.warm_up(77, (1, 4, 16, 16), 64, 64).clone()


def test_both_twins_have_the_loras():
    folder = lora_file("night").parent
    loader = LoraLoader(FolderStore(folder), Targets.read(pipeline_folder()))
    files = [loader.inspect(name).file for name in ("night", "hatching")]
    night, hatching = loader.begin(files, [0.9, -0.5]).wait(60)
    loader.close()
    twins, whole = Guided(CPU, CPU), Guided(CPU)
    plain = twins.predict()
    for loras in ((night,), (night, hatching), (hatching,)):
        ours = twins.predict(*loras)
        assert torch.equal(ours, Guided(CPU, CPU).predict(*loras))
        torch.testing.assert_close(ours, whole.predict(*loras), rtol=1e-4, atol=1e-5)
        for row in (0, 1):  # one of each twin
            assert (ours[row] - plain[row]).abs().max() > 1e-2
    assert torch.equal(twins.predict(), plain)


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
