"""Checks of engines of any kind: against PyTorch, through refits, and by the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.adapters.targets import is_layer
from swiftdiffusion.engines import Engine, refit
from swiftdiffusion.engines.tensorrt.records import Profile, Size
from swiftdiffusion_build.export.subjects import Subject
from swiftdiffusion_build.export.tracing import make_inputs

WARM_UP_CALLS = 3
TIMED_CALLS = 20
STRENGTH = 0.05  # of a stand-in for a LoRA, as a share of the weights' deviation

# Makes an engine of a subject's weights that nobody has refitted yet.
Make = Callable[[Subject], Engine]


@dataclass(frozen=True)
class RefitFindings:
    """What refitting did. All must be true."""

    changed: bool  # other weights give other outputs
    exact: bool  # A, B, A and none give, bit for bit, what an engine gives that had no other before
    right: bool  # and the outputs with A are PyTorch's with A


def choose_sizes(profiles: Sequence[Profile]) -> dict[Size, Profile]:
    """Every profile's best, least and greatest size, with the profile that an engine takes for it: the narrowest."""
    sizes = dict.fromkeys(size for profile in profiles for size in (profile.best, profile.low, profile.high))
    return {
        size: min((profile for profile in profiles if profile.takes(size)), key=lambda profile: profile.breadth)
        for size in sizes
    }


def draw_inputs(subject: Subject, size: Size, device: torch.device) -> tuple[Any, ...]:
    """The same random inputs of a size at each call, on a device."""
    inputs = make_inputs(subject.inputs, size, torch.Generator().manual_seed(0))
    return tuple([t.to(device) for t in given] if isinstance(given, list) else given.to(device) for given in inputs)


def run(engine: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Tensor]:
    """Copies of an engine's outputs, on the CPU."""
    outputs = engine(*inputs)
    return [output.cpu().clone() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def compare(results: list[Tensor], references: list[Tensor]) -> float:
    """The largest difference in any output, as a share of that output's largest value; infinite for a NaN."""
    shares = [
        ((result.float() - reference.float()).abs().max() / reference.float().abs().max()).item()
        for result, reference in zip(results, references, strict=True)
    ]
    return max(float("inf") if share != share else share for share in shares)


def check_refits(subject: Subject, make: Make, inputs: tuple[Any, ...], tolerance: float) -> RefitFindings:
    """Take an engine from A to B to A to the base, where A and B change layers of which they share some.

    Args:
        subject: one that takes LoRAs.
        make: makes the engines.
        inputs: on the engines' device.
        tolerance: for `compare` with PyTorch.
    """
    weights = {name: weight.detach() for name, weight in subject.load().weights().items()}
    layers = [name for name, weight in weights.items() if is_layer(name, tuple(weight.shape))]
    first = _alter(weights, layers[: len(layers) * 2 // 3], seed=1)
    second = _alter(weights, layers[len(layers) // 3 :], seed=2)
    base = {name: weights[name] for name in layers}

    def fresh(*refits: Mapping[str, Tensor]) -> list[Tensor]:
        engine = make(subject)
        run(engine, inputs)  # a captured graph is there before the first refit
        for altered in refits:
            refit(engine, altered)
        return run(engine, inputs)

    plain, with_first, with_second = fresh(), fresh(first), fresh(second)
    engine = make(subject)
    held: list[list[Tensor]] = [run(engine, inputs)]
    current: Mapping[str, Tensor] = {}
    for wanted in (first, second, first, {}):
        # the union: what the last set had and the next has not goes back to the base
        refit(engine, {**{name: base[name] for name in current}, **wanted})
        current = wanted
        held.append(run(engine, inputs))
    expected = [plain, with_first, with_second, with_first, plain]

    network = subject.load().eval()
    network.load_state_dict({network.prefix + name: weight for name, weight in first.items()}, strict=False)
    with torch.inference_mode():
        reference = run(network.to(inputs[0].device), inputs)
    return RefitFindings(
        changed=not _equal(with_first, plain) and not _equal(with_first, with_second),
        exact=all(_equal(found, wanted) for found, wanted in zip(held, expected, strict=True)),
        right=compare(with_first, reference) <= tolerance,
    )


def measure(work: Callable[[], object], device: torch.device) -> float:
    """Median milliseconds from the start of a call to its last result on the device."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    for call in range(WARM_UP_CALLS + TIMED_CALLS):
        wait()
        began = time.perf_counter()
        work()
        wait()
        if call >= WARM_UP_CALLS:
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def _alter(weights: Mapping[str, Tensor], layers: list[str], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    altered = {}
    for name in layers:
        weight = weights[name].float()
        noise = torch.randn(weight.shape, generator=generator) * weight.std() * STRENGTH
        altered[name] = (weight + noise).to(weights[name].dtype)
    return altered


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
