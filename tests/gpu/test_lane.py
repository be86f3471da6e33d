"""A whole lane and its services on one GPU, in one process, against the same on the CPU."""

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from swiftdiffusion.configuration import Location
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.lane import Lane
from swiftdiffusion.lane_configuration import LaneConfiguration
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.request import LoraUse
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
WEIGHTS = Path(__file__).resolve().parents[2] / "build" / "shapes" / "weights"
PIPELINE, ADAPTERS = WEIGHTS / "pipeline", Location(WEIGHTS / "loras")
ASKED = {
    "prompt": [b"a small red circle left of a large blue square"],
    "seed": [5],
    "steps": [20],
    "loras": [b"night", b"hatching"],
    "lora_bound": [0],
}


class LocalLane:
    """A lane whose services are called directly, as a server would call their models."""

    def __init__(self, placement, **parameters):
        services: dict[str, Any] = {
            "text_encoder": TextEncoderService(
                TextEncoderConfiguration(pipeline=PIPELINE, adapters=ADAPTERS), placement
            ),
            "vae_decoder": VaeDecoderService(VaeDecoderConfiguration(PIPELINE), placement),
            "controlnet_edges": ControlNetService(
                ControlNetConfiguration(WEIGHTS / "controlnets" / "edges"), placement
            ),
        }
        self._threads = ThreadPoolExecutor(4)
        configuration = LaneConfiguration(
            pipeline=PIPELINE, adapters=ADAPTERS, width=128, height=128, size_min=64, size_max=256, **parameters
        )

        def call(model, _, inputs):
            return self._threads.submit(services[model].answer, inputs)

        catalogue = Catalogue(call, lambda: ["controlnet_edges"], bool, "controlnet_", timeout_s=2)
        self.lane = Lane(configuration, placement, call, catalogue)

    def draw(self, **changes):
        tensors = {
            name: np.array(value, object if isinstance(value[0], bytes) else None) for name, value in changes.items()
        }
        return self.lane.draw(self.lane.accept(tensors), lambda: None, lambda _: None).pixels.astype(int)

    def close(self):
        self.lane.close()
        self._threads.shutdown()


@pytest.fixture(scope="module")
def on_cpu():
    with closing(LocalLane(Placement(torch.device("cpu"), torch.float32))) as lane:
        yield lane


@pytest.fixture
def open_lane():
    """Opens lanes; what they share with ControlNets is freed after the test."""
    with ExitStack() as lanes:
        yield lambda *args, **more: lanes.enter_context(closing(LocalLane(*args, **more)))


@pytest.fixture(scope="module", autouse=True)
def exact_products():
    """TF32 keeps 10 bits of a factor; fp32 shall mean fp32 here."""
    torch.backends.cudnn.allow_tf32 = False


def test_fp32_gives_the_cpus_picture(on_cpu, open_lane):
    on_gpu = open_lane(Placement(torch.device("cuda"), torch.float32))
    assert np.abs(on_gpu.draw(**ASKED) - on_cpu.draw(**ASKED)).max() <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_captured_text_encoders_give_what_the_written_ones_do(dtype):
    placement = Placement(torch.device("cuda:0"), dtype)
    captured, written = (
        TextEncoderService(TextEncoderConfiguration(pipeline=PIPELINE, adapters=ADAPTERS, engine=engine), placement)
        for engine in ("auto", "torch")
    )
    plain: list[LoraUse] = []
    styled = [LoraUse("night", 0.8)]
    for loras, prompts in ((plain, ["a red circle", "", "two stars"]), (styled, ["a red circle"]), (plain, ["a star"])):
        for ours, theirs in zip(captured.encode(prompts, loras)[:2], written.encode(prompts, loras)[:2], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-2 if dtype == torch.float16 else 1e-5, atol=2e-2)
    with_style, without = (captured.encode(["a red circle"], loras)[0] for loras in (styled, plain))
    assert (with_style - without).abs().max() > 0.05
    for service in (captured, written):
        service.close()


def test_fp16_comes_near(on_cpu, open_lane):
    on_gpu = open_lane(Placement(torch.device("cuda"), torch.float16))
    assert np.abs(on_gpu.draw(**ASKED) - on_cpu.draw(**ASKED)).mean() < 2


def test_loras_leave_no_trace(open_lane):
    on_gpu = open_lane(Placement(torch.device("cuda"), torch.float16))
    plain = {name: value for name, value in ASKED.items() if not name.startswith("lora")}
    before = on_gpu.draw(**plain)
    with_loras = on_gpu.draw(**ASKED)
    assert np.array_equal(on_gpu.draw(**plain), before)
    assert np.array_equal(on_gpu.draw(**ASKED), with_loras)
    assert not np.array_equal(with_loras, before)


def draw_reference():
    file = io.BytesIO()
    image = Image.new("RGB", (128, 128))
    ImageDraw.Draw(image).ellipse((30, 40, 80, 90), outline="white", width=4)
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("second_gpu", ["", pytest.param("cuda:1", marks=needs_two)])
def test_a_lanes_own_controlnets_draw_what_a_services_do(second_gpu, open_lane):
    placement = Placement(torch.device("cuda:0"), torch.float16)
    own = {"controlnets": WEIGHTS / "controlnets", "controlnets_pinned": "edges"}
    served, hosting = (open_lane(placement, second_gpu=second_gpu, **more) for more in ({}, own))
    asked = {**ASKED, "controlnets": [b"edges"], "control_images": [draw_reference()]}
    pictures = [lane.draw(**asked) for lane in (served, hosting, hosting)]
    assert np.array_equal(pictures[1], pictures[2])
    assert np.abs(pictures[0] - pictures[1]).max() <= 2
    assert np.abs(pictures[0] - hosting.draw(**ASKED)).max() > 50
    assert np.array_equal(hosting.draw(**asked, trace=[True]), pictures[1])


@needs_two
def test_guidance_on_two_gpus_gives_the_same_picture(open_lane):
    placement = Placement(torch.device("cuda:0"), torch.float32)
    one, two = open_lane(placement), open_lane(placement, second_gpu="cuda:1")
    plain = {name: value for name, value in ASKED.items() if not name.startswith("lora")}
    before = two.draw(**plain)
    assert np.abs(before - one.draw(**plain)).max() <= 2
    assert np.abs(two.draw(**ASKED) - one.draw(**ASKED)).max() <= 2
    assert np.array_equal(two.draw(**plain), before)
    assert np.abs(two.draw(**plain, guidance_scale=[1.0]) - one.draw(**plain, guidance_scale=[1.0])).max() <= 2
