"""A placement against a checkpoint and the GPUs that there are."""

import pytest

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion_build.placement.checking import check_placement
from swiftdiffusion_build.placement.footprints import Footprints
from swiftdiffusion_build.placement.gpus import GIB, describe_gpus
from swiftdiffusion_build.placement.server_placement import CPU, ServerPlacement

FOOTPRINTS = Footprints(6 * GIB, 2 * GIB, GIB, {"edges": 3 * GIB, "layout": 3 * GIB})
TWO = describe_gpus(2, 9)


def place(lanes=None, text_encoder=(0,), **controlnets):
    return ServerPlacement(text_encoder, (0,), lanes or {"first": (0,)}, controlnets or {"edges": (1,), "layout": (1,)})


def test_what_fits_to_the_last_byte_passes():
    check_placement(place(), FOOTPRINTS, TWO, "tensorrt")
    everywhere = ServerPlacement(CPU, CPU, {"first": CPU, "second": CPU}, {"edges": CPU, "layout": CPU})
    for engine in ("torch", "auto"):
        check_placement(everywhere, FOOTPRINTS, (), engine)


@pytest.mark.parametrize(("placement", "gpus", "engine", "sentence"), [
    (place(edges=(1,), layout=(1,), depth=(1,)), TWO, "auto",
     "controlnets has 'depth', which is not in the checkpoint; there: edges, layout"),
    (place(edges=(1,)), TWO, "auto", "controlnets has no 'layout'; each that is served needs a place"),
    (place(edges=(1,), layout=(2,)), TWO, "auto", "controlnets.layout names GPU 2; there are 2, numbered from 0"),
    (place(lanes={"a": (0,), "b": (7,)}), TWO, "auto", "lanes.b names GPU 7; there are 2"),
    (place(), (), "auto", "text_encoder names GPU 0; there are none"),
    (place(text_encoder=CPU), TWO, "tensorrt", "text_encoder is on the CPU, where the engine tensorrt does not run"),
    (place(edges=(1,), layout=CPU), TWO, "cuda_graph", "controlnets.layout is on the CPU, where the engine cuda_graph"),
    (place(edges=(0, 1), layout=(1,)), TWO, "auto",
     r"GPU 0 has 9\.00 GiB, and what is placed on it needs 12\.00 for weights and processes alone: "
     r"text_encoder 2\.00, vae_decoder 1\.00, lanes\.first 6\.00, controlnets\.edges 3\.00"),
    (place(lanes={"a": (0,), "b": (1,)}), TWO, "auto", r"GPU 1 has 9\.00 GiB, .* needs 12\.00"),
    (place(), describe_gpus(2, 8.99), "auto", r"GPU 0 has 8\.99 GiB, .* needs 9\.00"),
])  # fmt: skip
def test_what_cannot_work_is_refused(placement, gpus, engine, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        check_placement(placement, FOOTPRINTS, gpus, engine)


def test_a_checkpoint_without_controlnets_is_named():
    alone = Footprints(GIB, GIB, GIB, {})
    with pytest.raises(InvalidArgument, match="'edges', which is not in the checkpoint; there: none"):
        check_placement(place(edges=(1,)), alone, TWO, "auto")
