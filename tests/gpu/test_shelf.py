"""That a ControlNet which is dropped gives its memory on the GPU back, its captures too."""

from pathlib import Path

import pytest
import torch

from swiftdiffusion.controlnets.library import ControlNetLibrary
from swiftdiffusion.controlnets.shelf import Shelf
from swiftdiffusion.placement import NetworkConfiguration, Placement

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CONTROLNETS = Path(__file__).resolve().parents[2] / "build" / "shapes" / "weights" / "controlnets"


@pytest.mark.parametrize("engine", ["torch", "cuda_graph"])
def test_memory_stays_the_same_however_often_they_take_turns(engine):
    configuration = NetworkConfiguration(engine=engine, warm_up="128x128, 256x256")
    library = ControlNetLibrary(CONTROLNETS, configuration, 77, Placement(torch.device("cuda"), torch.float16))
    shelf = Shelf(library, max(map(library.measure, library.names())))
    free = []
    for name in ["edges", "layout"] * 6:
        with shelf.lease(name, lambda: None, 300):
            torch.cuda.synchronize()
            free.append(torch.cuda.mem_get_info()[0])
        assert shelf.held() == [name]
    # the first rounds make contexts, workspaces and kernels that stay
    assert min(free[4:6]) - min(free[-2:]) < 2 * 2**20
    shelf.close()
