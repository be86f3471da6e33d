import gc
import os
import re
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from shapes.checkpoint import controlnet_folder, pipeline_folder
from swiftdiffusion.controlnets import attachment as attachment_module
from swiftdiffusion.controlnets import session as session_module
from swiftdiffusion.controlnets.attachment import Attachment, Subject, Terms
from swiftdiffusion.controlnets.mailbox import Form, MailboxPool
from swiftdiffusion.controlnets.messages import ALIVE, BLS, READY, News, Offer
from swiftdiffusion.controlnets.words import create_page
from swiftdiffusion.denoising.conditioning import blank
from swiftdiffusion.errors import Cancelled, InvalidArgument, Unavailable
from swiftdiffusion.lifeline import Holder
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.placement import Placement
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService

CPU = Placement(torch.device("cpu"), torch.float32)
SIZE, LATENTS = 64, 16
TIMESTEPS = torch.tensor([900.0, 500.5, 100.0])
PATIENT = Terms()
QUICK = Terms(timeout_s=0.5, service_timeout_s=1)


@pytest.fixture(scope="module")
def network():
    return load_controlnet(controlnet_folder("edges"), torch.float32)


@pytest.fixture(scope="module")
def service():
    return ControlNetService(ControlNetConfiguration(device="cpu", controlnet=controlnet_folder("edges")), CPU)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def make_image(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)


def make_subject(network):
    form = Form(CPU.device, CPU.dtype, (2, 4, LATENTS, LATENTS), network.count_residuals(2, LATENTS, LATENTS))
    return Subject(TIMESTEPS, form)


def make_conditioning(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    nothing = blank(network, 77, SIZE, SIZE, CPU)
    return replace(nothing, prompt_embeds=torch.randn(nothing.prompt_embeds.shape, generator=generator))


def make_ready(attachment, network, check=lambda: None, seed=0):
    """The link of a ControlNet that was given its prompts."""
    attachment.prepare(check)
    image: Future[Any] = Future()
    image.set_result(make_image(seed).numpy())
    attachment.show(image)
    attachment.hand_over(make_conditioning(network, seed))
    return attachment.wait(check)


def attach(call, subject, terms=PATIENT):
    return Attachment(call, "controlnet_edges", "edges", subject, terms, MailboxPool(1))


def compute(network, seed, sample, timestep):
    conditioning, image = make_conditioning(network, seed), make_image(seed).permute(2, 0, 1).unsqueeze(0) / 255
    with torch.inference_mode():
        return network(sample, timestep, conditioning.prompt_embeds, conditioning.pooled, conditioning.time_ids, image)


def test_an_attached_controlnet_gives_its_residuals(network, service, threads):
    subject = make_subject(network)
    attachments = [attach(lambda _, __, inputs: threads.submit(service.answer, inputs), subject) for _ in range(2)]
    try:
        links = [make_ready(attachment, network, seed=seed) for seed, attachment in enumerate(attachments)]
        for timestep in TIMESTEPS:  # two requests at a time, each with its own
            samples = [torch.randn(2, 4, LATENTS, LATENTS) for _ in links]
            for link, sample in zip(links, samples, strict=True):
                link.start_step(sample, timestep)
            for seed, (link, sample) in enumerate(zip(links, samples, strict=True)):
                assert torch.equal(link.residuals(), compute(network, seed, sample, timestep))
        assert attachments[0].describe() == {
            "name": "edges",
            "model": "controlnet_edges",
            "transport": "bls",
            "goes_first": False,
            "reason": "the lane offers no memory",
        }
    finally:
        for attachment in attachments:
            attachment.close()
    links[0].start_step(samples[0], TIMESTEPS[0])
    with pytest.raises(Unavailable, match="not attached"):
        links[0].residuals()


def test_a_request_that_is_over_is_freed_at_once(network, service, threads):
    """Not only when Python looks for circles: a hundred requests' tensors and sockets would wait for that."""
    attachment = attach(lambda _, __, inputs: threads.submit(service.answer, inputs), make_subject(network))
    link = make_ready(attachment, network)
    link.start_step(torch.randn(2, 4, LATENTS, LATENTS), TIMESTEPS[0])
    link.residuals()
    attachment.close()
    left = [weakref.ref(attachment), weakref.ref(link)]
    gc.disable()
    try:
        del attachment, link
        assert [one() for one in left] == [None, None]
    finally:
        gc.enable()


def test_a_step_takes_a_sample_of_the_requests_shape_and_one_timestep(network, service, threads):
    attachment = attach(lambda _, __, inputs: threads.submit(service.answer, inputs), make_subject(network))
    with closing(attachment):
        make_ready(attachment, network)
        step = {
            "session": np.array([attachment._lifeline.token.encode()], object),
            "sample": np.zeros((2, 4, LATENTS, LATENTS), np.float32),
            "timestep": np.zeros(1, np.float32),
        }
        for name, shapes, allowed in (
            ("sample", [(2, 3, LATENTS, LATENTS), (1, 4, 1, 1), (4, LATENTS, LATENTS), (0,)], [2, 4, LATENTS, LATENTS]),
            ("timestep", [(0,), (2,), (1, 1)], [1]),
        ):
            for shape in shapes:
                words = re.escape(f"{name} has shape {list(shape)}; allowed: {allowed}")
                with pytest.raises(InvalidArgument, match=words):
                    service.answer(step | {name: np.zeros(shape, np.float32)})
        assert service.answer(step)["residuals"].shape == (network.count_residuals(2, LATENTS, LATENTS),)


def test_memory_that_cannot_be_shared_is_refused_where_nothing_else_will_do(network, service, threads):
    attachment = attach(
        lambda _, __, inputs: threads.submit(service.answer, inputs), make_subject(network), Terms(transport="ipc")
    )
    with pytest.raises(Unavailable, match=r"'edges' cannot share memory with the lane.*offers no memory"):
        make_ready(attachment, network)
    attachment.close()


def test_one_that_is_let_go_before_it_has_its_prompts_ends_in_silence(network, service, threads, caplog):
    attachment = attach(lambda _, __, inputs: threads.submit(service.answer, inputs), make_subject(network))
    attachment._answer.result(10)
    (session,) = service._sessions.values()
    attachment.close()
    session._thread.join(10)
    assert not service._sessions
    assert not caplog.records


class Memory:
    """Stands for mailboxes, their pool, and the link and the steps over them, which need a GPU."""

    transport = "ipc"

    def __init__(self):
        self._page = create_page()

    def take(self, form):
        return self

    def offer(self):
        return Offer("GPU-0", "", "float32", (2, 4, LATENTS, LATENTS), 1, 0), self._page

    def open(self, near):
        self.near = near
        return self

    def link(self, mailbox, pulse, name, timeout_s, goes_first):
        self.goes_first = goes_first
        return self

    def push(self, mailbox, session, timesteps, is_cut):
        while not is_cut(1):
            pass

    def check(self):
        pass

    def put(self, mailbox):
        os.close(self._page)

    def close(self):
        pass


@pytest.mark.parametrize(
    ("near", "near_first", "goes_first"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_one_on_the_lanes_gpu_goes_first_unless_told_otherwise(
    network, service, threads, monkeypatch, near, near_first, goes_first
):
    memory = Memory()
    monkeypatch.setattr(session_module, "OpenedMailbox", lambda *_: memory.open(near))
    monkeypatch.setattr(session_module, "push_steps", memory.push)
    monkeypatch.setattr(attachment_module, "IpcLink", memory.link)
    monkeypatch.setattr(attachment_module, "LET_GO_S", 10)  # however busy this machine is
    subject = make_subject(network)
    subject = replace(subject, form=replace(subject.form, device=torch.device("cuda:0")))
    attachment = Attachment(
        lambda _, __, inputs: threads.submit(service.answer, inputs),
        "controlnet_edges",
        "edges",
        subject,
        Terms(near_first=near_first),
        memory,  # type: ignore[arg-type]
    )
    with closing(attachment):
        assert make_ready(attachment, network).goes_first is goes_first
        assert attachment.describe() == {
            "name": "edges",
            "model": "controlnet_edges",
            "transport": "ipc",
            "goes_first": goes_first,
        }


def test_terms_know_their_transports():
    with pytest.raises(InvalidArgument, match="'controlnet_transport' is 'tcp'; allowed: auto, ipc, bls"):
        Terms(transport="tcp")


def test_a_service_that_does_not_answer_is_named(network, threads):
    over = threading.Event()
    attachment = attach(lambda *_: threads.submit(over.wait, 5), make_subject(network), QUICK)
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"'edges' did not answer within 0\.5 s"):
        make_ready(attachment, network)
    assert time.monotonic() - start < 2
    attachment.close()
    over.set()


def test_a_refusal_is_the_services_own(network, threads):
    def refuse():
        raise InvalidArgument("no such thing")

    attachment = attach(lambda *_: threads.submit(refuse), make_subject(network))
    with pytest.raises(InvalidArgument, match="no such thing"):
        make_ready(attachment, network)
    attachment.close()


def test_a_request_that_is_given_up_does_not_wait(network, threads):
    def check():
        raise Cancelled

    attachment = attach(lambda *_: threads.submit(time.sleep, 0.1), make_subject(network))
    with pytest.raises(Cancelled):
        make_ready(attachment, network, check)
    attachment.close()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("dies", "'edges' ended while it was at work"),
        ("falls silent", r"'edges' gave no sign of life for 0\.5 s"),
        ("hangs", "'edges' gave no residuals within 1 s"),
    ],
)
def test_a_process_that_is_gone_or_at_a_loss_is_noticed(network, threads, fault, sentence):
    over = threading.Event()

    def die(holder):
        deadline = time.monotonic() + (0.2 if fault == "dies" else 5)
        while not over.wait(0.1) and time.monotonic() < deadline:
            if fault == "hangs":
                holder.send(News(ALIVE).pack())
        holder.close()

    def act(inputs):
        if "sample" in inputs:  # the call that never returns
            over.wait(5)
            return None
        holder = Holder(inputs["session"][0].decode())
        for _ in ("offer", "image", "prompts"):
            holder.take_over()
        holder.send(News(READY, BLS).pack())
        threads.submit(die, holder)
        return {}

    attachment = attach(lambda _, __, inputs: threads.submit(act, inputs), make_subject(network), QUICK)
    link = make_ready(attachment, network)
    link.start_step(torch.zeros(2, 4, LATENTS, LATENTS), TIMESTEPS[0])
    start = time.monotonic()
    with pytest.raises(Unavailable, match=sentence):
        link.residuals()
    assert time.monotonic() - start < 1.5
    over.set()
    attachment.close()


def test_residuals_are_counted_as_the_unet_makes_them(network):
    encoder, _ = load_unet(pipeline_folder(), torch.float32)
    for height, width in [(16, 16), (20, 28), (9, 13)]:
        given = blank(encoder, 77, 4 * height, 4 * width, CPU)
        with torch.inference_mode():
            mid, _, *skips = encoder(
                torch.zeros(2, 4, height, width), torch.ones(()), given.prompt_embeds, given.pooled, given.time_ids
            )
        assert encoder.count_residuals(2, height, width) == sum(part.numel() for part in (mid, *skips))
        assert network.count_residuals(2, height, width) == encoder.count_residuals(2, height, width)


def test_sizes_halve_as_convolutions_do():
    sizes = [23]
    conv = torch.nn.Conv2d(1, 1, 3, stride=2, padding=1)
    for _ in range(3):
        sizes.append(conv(torch.zeros(1, 1, sizes[-1], 8)).shape[2])
    assert [-(-23 // 2**level) for level in range(4)] == sizes
    assert all(np.diff(pair) < 0 for pair in pairwise(sizes))
