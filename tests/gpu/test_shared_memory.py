"""ControlNets in a process of their own, on this GPU and on another, over memory that both processes have open."""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.controlnets.attachment import Attachment, Subject, Terms
from swiftdiffusion.controlnets.mailbox import Form, MailboxPool
from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.errors import Unavailable
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.placement import Placement
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

EDGES = Path(__file__).resolve().parents[2] / "build" / "shapes" / "weights" / "controlnets" / "edges"
GPUS = list(range(min(torch.cuda.device_count(), 2)))
LANE = Placement(torch.device("cuda:0"), torch.float16)
BATCH, LATENTS, PIXELS = 2, 32, 128
TIMESTEPS = torch.linspace(999, 1, 8)
TERMS = Terms(transport="ipc", timeout_s=1.5)


def serve(gpu, pipe):
    """The ControlNet's process: answers what comes through the pipe."""
    placement = Placement(torch.device(f"cuda:{gpu}"), torch.float16)
    with torch.cuda.device(gpu):
        # warm, as one that is served: else kernels are compiled in the first step, which counts as its death
        warm_up = f"{PIXELS}x{PIXELS}"
        service = ControlNetService(ControlNetConfiguration(controlnet=EDGES, warm_up=warm_up), placement)
        pipe.send("ready")
        while True:
            inputs = pipe.recv()
            try:
                pipe.send(service.answer(inputs))
            except Exception as error:
                pipe.send(error)


class Service:
    """That process, from here."""

    def __init__(self, gpu):
        self.gpu = gpu
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(gpu, theirs), daemon=True)
        self.process.start()
        assert self._pipe.poll(120)
        assert self._pipe.recv() == "ready"
        self._threads = ThreadPoolExecutor(4)
        self._lock = threading.Lock()

    def call(self, model, contract, inputs):
        return self._threads.submit(self._call, inputs)

    def _call(self, inputs):
        with self._lock:
            self._pipe.send(inputs)
            answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self):
        self.process.kill()
        self.process.join()


@pytest.fixture(params=GPUS)
def service(request):
    one = Service(request.param)
    yield one
    one.end()


@pytest.fixture(scope="module")
def network():
    return load_controlnet(EDGES, torch.float16)


@pytest.fixture
def pool():
    pool = MailboxPool(4)
    yield pool
    pool.close()


def make_subject(network, seed=0):
    """What a ControlNet is attached for, and the reference and the prompts that follow."""
    draw = torch.Generator("cuda").manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=draw, device="cuda").half()

    conditioning = Conditioning(
        normal(BATCH, 77, network.prompt_width),
        normal(BATCH, network.pooled_width),
        torch.tensor([[PIXELS, PIXELS, 0, 0, PIXELS, PIXELS]] * BATCH, device="cuda").half(),
    )
    image = torch.randint(0, 256, (PIXELS, PIXELS, 3), generator=draw, device="cuda", dtype=torch.uint8)
    form = Form(LANE.device, LANE.dtype, (BATCH, 4, LATENTS, LATENTS), network.count_residuals(BATCH, LATENTS, LATENTS))
    return Subject(TIMESTEPS, form), image, conditioning


def attach(service, asked, terms, pool):
    """An attachment that is ready, and its link, for what `make_subject` gave."""
    subject, image, conditioning = asked
    attachment = Attachment(service.call, "controlnet_edges", "edges", subject, terms, pool)
    attachment.prepare(lambda: None)
    reference: Future[Any] = Future()
    reference.set_result(image.cpu().numpy())
    attachment.show(reference)
    attachment.hand_over(conditioning)
    return attachment, attachment.wait(lambda: None)


def make_samples(seed):
    draw = torch.Generator("cuda").manual_seed(seed)
    return [torch.randn((BATCH, 4, LATENTS, LATENTS), generator=draw, device="cuda").half() for _ in TIMESTEPS]


def run(service, subject, samples, terms, pool):
    """All steps, enqueued without a look at the results."""
    attachment, link = attach(service, subject, terms, pool)
    try:
        results = []
        for sample, timestep in zip(samples, TIMESTEPS, strict=True):
            link.start_step(sample, timestep)
            results.append(link.residuals().to("cuda", torch.float16, copy=True))
        torch.cuda.synchronize()
        attachment.check()
        return results
    finally:
        attachment.close()


def test_shared_memory_carries_what_calls_carry(service, network, pool):
    for seed in (0, 1, 0):  # the same mailbox serves all three
        subject, samples = make_subject(network, seed), make_samples(seed + 10)
        shared = run(service, subject, samples, TERMS, pool)
        called = run(service, subject, samples, Terms(transport="bls", timeout_s=10), pool)
        assert all(torch.equal(*pair) for pair in zip(shared, called, strict=True))
        assert shared[0].abs().sum() > 0


def test_one_on_the_lanes_gpu_goes_first(service, network, pool):
    attachment, link = attach(service, make_subject(network), TERMS, pool)
    assert link.goes_first == (service.gpu == LANE.device.index)
    attachment.close()


def test_residuals_asked_for_again_are_the_same(service, network, pool):
    """As the loop does for one that goes first, with the encoder half between."""
    subject, samples = make_subject(network), make_samples(0)
    whole = run(service, subject, samples, TERMS, pool)
    attachment, link = attach(service, subject, TERMS, pool)
    for sample, timestep, expected in zip(samples, TIMESTEPS, whole, strict=True):
        link.start_step(sample, timestep)
        link.residuals()
        torch.mm(sample[0, 0], sample[0, 0])
        assert torch.equal(link.residuals(), expected)
    attachment.close()


def test_requests_share_a_controlnet(service, network, pool):
    subjects, samples = [make_subject(network, seed) for seed in range(3)], [make_samples(seed) for seed in range(3)]
    alone = [run(service, *one, TERMS, pool) for one in zip(subjects, samples, strict=True)]
    attachments, links = zip(*(attach(service, subject, TERMS, pool) for subject in subjects), strict=True)
    for step, timestep in enumerate(TIMESTEPS):
        for link, sample in zip(links, samples, strict=True):
            link.start_step(sample[step], timestep)
        for link, one in zip(links, alone, strict=True):
            assert torch.equal(link.residuals(), one[step])
    for attachment in attachments:
        attachment.close()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_controlnet_does_not_hold_the_gpu(service, network, pool, blow):
    subject, samples = make_subject(network), make_samples(0)
    run(service, subject, samples, TERMS, pool)
    attachment, link = attach(service, subject, TERMS, pool)
    link.start_step(samples[0], TIMESTEPS[0])
    link.residuals()
    torch.cuda.synchronize()
    os.kill(service.process.pid, blow)
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"'edges' (ended|gave no)"):
        for sample, timestep in zip(samples[1:], TIMESTEPS[1:], strict=True):
            link.start_step(sample, timestep)  # what the stopped process had enqueued already is still computed
            link.residuals()
            torch.cuda.synchronize()  # waits for the residuals, until the watch lets it go
    assert time.monotonic() - start < TERMS.timeout_s + 1
    attachment.close()
    assert time.monotonic() - start < 2 * TERMS.timeout_s + 1


def test_a_request_that_is_given_up_leaves_the_mailbox_clean(service, network, pool):
    subject, samples = make_subject(network), make_samples(0)
    whole = run(service, subject, samples, TERMS, pool)
    for steps in range(4):
        attachment, link = attach(service, subject, TERMS, pool)
        for sample, timestep in zip(samples[:steps], TIMESTEPS, strict=False):
            link.start_step(sample, timestep)
            link.residuals()
        attachment.close()
        assert all(torch.equal(*pair) for pair in zip(run(service, subject, samples, TERMS, pool), whole, strict=True))


def test_memory_does_not_grow(service, network, pool):
    subject, samples = make_subject(network), make_samples(0)
    for _ in range(40):  # torch deals out 32 streams in turn, each with memory of its own
        run(service, subject, samples, TERMS, pool)
    free = [torch.cuda.mem_get_info(gpu)[0] for gpu in GPUS]
    for _ in range(20):
        run(service, subject, samples, TERMS, pool)
    after = [torch.cuda.mem_get_info(gpu)[0] for gpu in GPUS]
    assert all(abs(a - b) < 8 * 2**20 for a, b in zip(free, after, strict=True))
