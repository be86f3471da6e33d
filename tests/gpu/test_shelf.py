"""That a ControlNet which is dropped gives its memory back, its captures' too, on the GPU and on the host."""

import threading
from pathlib import Path

import pytest
import torch

from swiftdiffusion.controlnets.library import ControlNetLibrary
from swiftdiffusion.controlnets.shelf import Shelf
from swiftdiffusion.denoising.conditioning import blank
from swiftdiffusion.networks.controlnet import load_controlnet
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


def test_requests_on_threads_of_their_own_leave_no_host_memory_behind():
    """Each finds its ControlNet dropped and loaded anew, so that it is captured anew, too."""
    gpu = Placement(torch.device("cuda"), torch.float16)
    library = ControlNetLibrary(CONTROLNETS, NetworkConfiguration(engine="cuda_graph"), 77, gpu)
    shelf = Shelf(library, max(map(library.measure, library.names())))
    given = blank(load_controlnet(CONTROLNETS / "edges", torch.float32), 77, 128, 128, gpu)
    failed = []

    @torch.inference_mode()
    def draw(name):
        try:
            with shelf.lease(name, lambda: None, 300) as loaded, torch.cuda.stream(torch.cuda.Stream()):
                sample = given.pooled.new_zeros(loaded.shape_sample(2, 128, 128))
                moving = (sample, sample.new_ones((), dtype=torch.float32))
                image = sample.new_zeros((1, 3, 128, 128))
                session = loaded.engine.open(*moving, given.prompt_embeds, given.pooled, given.time_ids, image)
                session.step(*moving)
                torch.cuda.current_stream().synchronize()
                session.close()
        except Exception as error:
            failed.append(error)

    held = []
    for name in ["edges", "layout"] * 12:
        thread = threading.Thread(target=draw, args=(name,))
        thread.start()
        thread.join()
        held.append(read_resident())
    shelf.close()
    assert not failed
    assert min(held[-4:]) - min(held[8:12]) < 8 * 2**20


def read_resident():
    """Bytes of this process's memory that are in use."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
