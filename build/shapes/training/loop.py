"""The optimisation loop that every stage runs: warm-up and cosine, averaged weights, resumable.

On a GPU the networks compute in bfloat16 from fp32 master weights, and each step is a CUDA graph, since a network
this small would otherwise wait for its kernels to be launched.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 10
_SAVE_SECONDS = 60
_MAX_GRADIENT_NORM = 1.0
_WARM_UP_CALLS = 3  # before a capture: libraries choose their kernels, compilers compile


@dataclass(frozen=True)
class Schedule:
    """How long and how fast one stage learns; `batch` pictures a step, `decay` of the averaged weights."""

    steps: int
    batch: int
    rate: float
    seed: int
    warmup: int = 200
    decay: float = 0.998
    weight_decay: float = 0.01

    def shortened(self, scale: float) -> "Schedule":
        """The same with fewer steps and, for a scale below 0.1, batches of 8: to try the code out."""
        steps = max(2, round(self.steps * scale))
        return replace(self, steps=steps, batch=8 if scale < 0.1 else self.batch, warmup=min(self.warmup, steps // 2))

    def scenes(self, most: int) -> int:
        """How many scenes to learn from: `most`, or fewer where not so many would be seen."""
        return min(most, max(256, self.steps * self.batch))

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def compute_dtype(device: torch.device) -> torch.dtype:
    """What the networks compute in while they learn."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


class Learner:
    """Parameters with their fp32 masters, running average and optimiser; `step` is one update."""

    def __init__(self, parameters: Sequence[nn.Parameter], schedule: Schedule) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.schedule = schedule
        self.masters = [p.detach().float().clone() for p in self.parameters]
        self.average = [master.clone() for master in self.masters]
        device = self.masters[0].device
        # The device reads both at each replay of a captured step, so they are tensors.
        self.rate = torch.zeros((), device=device)
        self.average_weight = torch.zeros((), device=device)
        on_gpu = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.masters,
            lr=self.rate,
            betas=(0.9, 0.99),
            weight_decay=schedule.weight_decay,
            fused=on_gpu,
            capturable=on_gpu,
            foreach=None if on_gpu else False,
        )

    def set_step(self, step: int) -> None:
        """Seed torch and set the rates for a step: all that distinguishes it from the others."""
        torch.manual_seed(self.schedule.seed * 1_000_003 + step)
        self.rate.fill_(self.schedule.rate_at(step))
        self.average_weight.fill_(1 - min(self.schedule.decay, (step + 1) / (step + 10)))

    def step(self, loss: Tensor) -> None:
        """Descend from `loss`, then bring average and working copies up to date."""
        loss.backward()
        with torch.no_grad():
            for parameter, master in zip(self.parameters, self.masters, strict=True):
                master.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
            torch.nn.utils.clip_grad_norm_(self.masters, _MAX_GRADIENT_NORM)
            self.optimizer.step()
            change = torch._foreach_sub(self.masters, self.average)
            torch._foreach_mul_(change, self.average_weight)
            torch._foreach_add_(self.average, change)
            torch._foreach_copy_(self.parameters, self.masters)

    def finish(self) -> None:
        """Give the parameters their fp32 average."""
        for parameter, mean in zip(self.parameters, self.average, strict=True):
            parameter.data = mean.clone()

    def store(self, path: Path, step: int) -> None:
        """Save everything that `restore` needs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "step": step,
            "parameters": self.masters,
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(content, partial)
        partial.replace(path)  # at once: a run stopped while it saves still finds the last state whole

    def restore(self, path: Path) -> int:
        """Go on from a saved state, if there is one; returns how many steps are done."""
        if not path.exists():
            return 0
        content = torch.load(path, map_location=self.masters[0].device, weights_only=True)
        torch._foreach_copy_(self.masters, content["parameters"])
        torch._foreach_copy_(self.average, content["average"])
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.masters)
        self.optimizer.load_state_dict(content["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        logger.info("resumed %s after step %d", path.stem, content["step"])
        return int(content["step"])


def train(
    name: str,
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[int], Tensor],
    kinds: Sequence[int],
    schedule: Schedule,
    state: Path,
) -> None:
    """Minimise `loss_of(kind)`, the kinds of batches in turn; the parameters end as their fp32 running average.

    `loss_of` may depend on the kind, the parameters and torch's generator alone, and on a GPU must not wait for the
    device (it is captured). torch is seeded anew for each step, so that a run resumed from `state` sees what an
    uninterrupted one would have seen.
    """
    learner = Learner(parameters, schedule)
    first = learner.restore(state)
    make = _captured if learner.rate.device.type == "cuda" else _eager
    updates: dict[int, Callable[[], Tensor]] = {}
    reported, reported_step, saved = time.monotonic(), first, time.monotonic()
    for step in range(first, schedule.steps):
        kind = kinds[step % len(kinds)]
        if kind not in updates:
            updates[kind] = make(learner, loss_of, kind)
        learner.set_step(step)
        loss = updates[kind]()
        now = time.monotonic()
        if now - reported > _REPORT_SECONDS or step + 1 == schedule.steps:
            value = loss.item()  # waits for the device: only here
            now = time.monotonic()
            per_second = (step + 1 - reported_step) / (now - reported)
            left = divmod(int((schedule.steps - step - 1) / per_second), 60)
            speed = (
                f"{per_second:.1f} steps/s, {per_second * schedule.batch:.0f} pictures/s, {left[0]}:{left[1]:02d} left"
            )
            logger.info("%-9s step %d of %d, loss %.5f, %s", name, step + 1, schedule.steps, value, speed)
            reported, reported_step = now, step + 1
        if now - saved > _SAVE_SECONDS or step + 1 == schedule.steps:
            learner.store(state, step + 1)
            saved = now
    learner.finish()


def _eager(learner: Learner, loss_of: Callable[[int], Tensor], kind: int) -> Callable[[], Tensor]:
    def update() -> Tensor:
        loss = loss_of(kind)
        learner.step(loss)
        return loss.detach()

    return update


def _captured(learner: Learner, loss_of: Callable[[int], Tensor], kind: int) -> Callable[[], Tensor]:
    """One update as a CUDA graph (https://pytorch.org/docs/stable/notes/cuda.html#whole-network-capture)."""
    learner.rate.zero_()
    learner.average_weight.zero_()
    before = [tensor.clone() for tensor in _state_tensors(learner)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP_CALLS):
            learner.step(loss_of(kind))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = loss_of(kind)
        learner.step(loss)
    # The warm-up's updates had no rate, but moved the optimiser's moments.
    for tensor, old in zip(_state_tensors(learner), before, strict=False):
        tensor.copy_(old)
    if not before:
        for tensor in _state_tensors(learner):
            tensor.zero_()

    def update() -> Tensor:
        graph.replay()
        return loss.detach()

    return update


def _state_tensors(learner: Learner) -> list[Tensor]:
    return [t for state in learner.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
