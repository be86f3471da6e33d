"""A ControlNet's steps by calls, in a process whose default stream has other work."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swiftdiffusion.controlnets.attachment import Attachment, Subject, Terms
from swiftdiffusion.controlnets.mailbox import Form, MailboxPool
from swiftdiffusion.denoising.conditioning import blank
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.placement import Placement
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

EDGES = Path(__file__).resolve().parents[2] / "build" / "shapes" / "weights" / "controlnets" / "edges"
BATCH, LATENTS, PIXELS = 2, 32, 128
CYCLES = 20_000_000  # about 10 ms


def keep_busy(over):
    """Have the default stream always at work, with more behind it."""
    under_way = []
    while not over.is_set():
        torch.cuda._sleep(CYCLES)
        under_way.append(torch.cuda.Event())
        under_way[-1].record()
        if len(under_way) > 2:
            under_way.pop(0).synchronize()


def test_steps_by_calls_are_the_same_beside_other_work():
    gpu = Placement(torch.device("cuda:0"), torch.float16)
    service = ControlNetService(ControlNetConfiguration(controlnet=EDGES, warm_up=f"{PIXELS}x{PIXELS}"), gpu)
    network = load_controlnet(EDGES, torch.float16)
    form = Form(gpu.device, gpu.dtype, (BATCH, 4, LATENTS, LATENTS), network.count_residuals(BATCH, LATENTS, LATENTS))
    draw = np.random.default_rng(0)
    samples = [draw.standard_normal(form.sample, np.float32) for _ in range(8)]
    image: Future[Any] = Future()
    image.set_result(np.zeros((PIXELS, PIXELS, 3), np.uint8))
    over = threading.Event()
    with ThreadPoolExecutor(2) as threads:

        def call(model, contract, inputs):
            return threads.submit(service.answer, inputs)

        def step(sample):
            timestep = np.array([500], np.float32)
            return service.answer({"session": session, "sample": sample, "timestep": timestep})["residuals"]

        subject, terms = Subject(torch.tensor([500.0]), form), Terms(transport="bls", timeout_s=10)
        with closing(Attachment(call, "", "edges", subject, terms, MailboxPool(1))) as one:
            session = np.array([one._lifeline.token.encode()], object)
            one.prepare(lambda: None)
            one.show(image)
            one.hand_over(blank(network, 77, PIXELS, PIXELS, Placement(torch.device("cpu"), torch.float32)))
            one.wait(lambda: None)
            alone = [step(sample) for sample in samples]
            busy = threads.submit(keep_busy, over)
            try:
                beside = [step(sample) for sample in samples]
            finally:
                over.set()
            busy.result()
    assert all(np.array_equal(*pair) for pair in zip(alone, beside, strict=True))
    assert not np.array_equal(alone[0], alone[1])
