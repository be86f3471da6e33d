from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import diffusers
import pytest
import torch

from swiftdiffusion.denoising.advance import Advance
from swiftdiffusion.denoising.branch import Branch, UNet
from swiftdiffusion.denoising.conditioning import Conditioning
from swiftdiffusion.denoising.controls import Control
from swiftdiffusion.denoising.loop import denoise
from swiftdiffusion.denoising.plan import make_plan
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.errors import Cancelled

LATENTS = torch.ones(1, 4, 2, 2)
CONDITIONING = Conditioning(torch.zeros(2, 3, 5), torch.zeros(2, 5), torch.zeros(2, 6))


def encode(sample, timestep, *_):
    return sample * 0, sample.new_zeros(2, 8), sample


def decode(mid, embedding, skips, residuals, prompt_embeds):
    return skips[0] if residuals is None else skips[0] + residuals[0] + residuals[1]


def run(encoder=encode, controls=(), branches=None, before_step=lambda _: None, after_step=lambda _: None, steps=3):
    return denoise(
        [Branch(UNet(encoder, decode), CONDITIONING, controls)] if branches is None else branches,
        Advance(),
        make_plan("EulerDiscreteScheduler", diffusers.EulerDiscreteScheduler().config, steps),
        LATENTS,
        3.0,
        torch.Generator(),
        before_step,
        after_step,
        Stopwatch(),
    )


def test_controlnets_run_beside_the_encoder_and_each_other():
    together = Barrier(3)  # breaks unless all three are at work at the same time
    threads = ThreadPoolExecutor(2)

    def work(sample):
        together.wait(timeout=5)
        return torch.zeros(2 * sample.numel())

    def encoder(sample, timestep, *rest):
        together.wait(timeout=5)
        return encode(sample, timestep, *rest)

    class Working:
        goes_first = False

        def start_step(self, sample, timestep):
            self.answer = threads.submit(work, sample)

        def residuals(self):
            return self.answer.result(timeout=5)

    controls = [Control(name, Working(), 1.0, 0.0, 1.0) for name in "ab"]
    assert torch.equal(run(encoder, controls), run())


def test_the_encoder_waits_for_controlnets_that_go_first_when_all_are_started():
    events: list = []

    class Noting:
        def __init__(self, name, goes_first):
            self._name, self.goes_first = name, goes_first

        def start_step(self, sample, timestep):
            events.append(f"start {self._name}")
            self._values = torch.zeros(2 * sample.numel())

        def residuals(self):
            events.append(f"wait for {self._name}")
            return self._values

    def encoder(*inputs):
        events.append("encode")
        return encode(*inputs)

    links = {"far": Noting("far", False), "near": Noting("near", True), "other": Noting("other", False)}
    run(encoder, [Control(name, link, 1.0, 0.0, 1.0) for name, link in links.items()], steps=1)
    at = events.index("encode")
    assert events[:at] == ["start far", "start near", "start other", "wait for near"]
    assert {"wait for far", "wait for other"} <= set(events[at:])


def test_each_step_is_announced_and_reported():
    seen: list = []
    run(before_step=seen.append, after_step=lambda step: seen.append((step.number, step.of)))
    assert seen == [0, (1, 3), 1, (2, 3), 2, (3, 3)]


def test_a_step_that_is_no_longer_wanted_is_not_computed():
    calls: list = []

    def encoder(*inputs):
        calls.append(1)
        return encode(*inputs)

    def stop(step):
        if step == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(encoder, before_step=stop)
    assert len(calls) == 2


def test_guidance_split_in_two_predicts_the_same():
    def guided(sample, timestep, prompt_embeds, *rest):
        mid, embedding, skip = encode(sample, timestep, prompt_embeds, *rest)
        return mid, embedding, skip * prompt_embeds.mean((1, 2)).view(-1, 1, 1, 1)

    conditioning = Conditioning(torch.tensor([[[0.5]], [[0.8]]]), torch.zeros(2, 5), torch.zeros(2, 6))
    unet = UNet(guided, decode)
    halves = [Branch(unet, conditioning.take(rows), [], rows) for rows in (slice(0, 1), slice(1, 2))]
    assert torch.equal(run(branches=halves), run(branches=[Branch(unet, conditioning, [])]))
