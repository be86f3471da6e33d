"""The engine for plans of TensorRT: called and refitted as any other, replayed as CUDA graphs."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swiftdiffusion.engines.session import Session, SimpleSession
from swiftdiffusion.engines.tensorrt.execution import Execution
from swiftdiffusion.engines.tensorrt.library import TensorRt, load_tensorrt
from swiftdiffusion.engines.tensorrt.profiles import find_profile, read_ranges, require_size
from swiftdiffusion.engines.tensorrt.records import (
    PlanRecord,
    Size,
    digest_configuration,
    digest_weights,
    read_plan_record,
)
from swiftdiffusion.engines.tensorrt.refitting import LiveWeights, WeightRefitter
from swiftdiffusion.errors import InvalidArgument, Unavailable
from swiftdiffusion.networks.network import Network
from swiftdiffusion.placement import Placement

logger = logging.getLogger(__name__)

EXECUTIONS = 4  # shapes kept: one costs its activations


class TensorRtEngine:
    """A network run from its plan, for any threads: runs and refits are enqueued one after the other, as they come.

    A call's results are the execution's own: the next call or step with the same shapes overwrites them. A step's are
    copies. Weights may change while sessions are open: what is enqueued after that sees them.
    """

    def __init__(self, network: Network, placement: Placement, plan: Path) -> None:
        """Read `plan`, whose record lies beside it, for `network`, which stays on the CPU for its weights.

        Raises:
            InvalidArgument: the plan is missing or stale: of other weights, another configuration, GPU or TensorRT.
            Unavailable: there is no TensorRT here for this device, or it cannot read the plan.
        """
        record = read_plan_record(plan.with_suffix(".json"))
        library = load_tensorrt(record.tensorrt.split()[0])
        library.require_gpu(placement.device)
        network = network.to("cpu", placement.dtype).requires_grad_(False)
        require_fresh(record, plan, network, library, torch.cuda.get_device_name(placement.device))
        self._library, self._record = library, record
        self._device = placement.device
        with torch.cuda.device(self._device):
            self._runtime = library.trt.Runtime(library.log)
            self._engine = self._runtime.deserialize_cuda_engine(_read(plan))
            if self._engine is None:
                raise Unavailable(f"TensorRT cannot read {plan}: {library.log.latest_error}")
            self._stream = torch.cuda.Stream()
        self._live = LiveWeights(network.weights(), record, self._device)
        self._refitter = WeightRefitter(library, self._engine, self._live)
        self._ranges = read_ranges(self._engine, record.graph.inputs)
        self._executions: OrderedDict[tuple, Execution] = OrderedDict()
        self._steady = network.steady
        # of the stream, the executions, the refitter and the engine itself, of which TensorRT allows no use by two
        # threads: while one runs, captures or refits, others wait until it is enqueued
        self._lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, *inputs: Any) -> Any:
        """Run the plan on the network's inputs; a list that is None counts as zeros."""
        with self._lock, torch.cuda.device(self._device):
            return _unwrap(self._run(inputs))

    def open(self, *inputs: Any) -> Session:
        """A session whose steps run the whole plan, one after the other with those of all other sessions."""
        steady = inputs[len(inputs) - self._steady :]
        return SimpleSession(self._step, steady)

    @torch.inference_mode()
    def _step(self, *inputs: Any) -> Any:
        with self._lock, torch.cuda.device(self._device):
            outputs = tuple(output.clone() for output in self._run(inputs))
            # sessions have streams of their own: another's step must not overwrite what this one still copies
            self._stream.wait_stream(torch.cuda.current_stream())
        return _unwrap(outputs)

    def _run(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        given = self._name(inputs)
        shapes = complete_shapes({name: tuple(tensor.shape) for name, tensor in given.items()}, self._record)
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)  # first: a new execution may take memory of an old one's results
        execution = self._find_execution(shapes)
        with torch.cuda.stream(self._stream):
            for name, place in execution.inputs.items():
                fill(place, given.get(name))
        execution.run()
        current.wait_stream(self._stream)
        return tuple(execution.outputs[name] for name in self._record.graph.outputs)

    def require_size(self, batch: int, height: int, width: int) -> None:
        """Raise `InvalidArgument` for a batch of pictures that no profile takes."""
        require_size(self._record.profiles, Size(batch, height, width))

    def parameters(self) -> Mapping[str, Tensor]:
        """The live weights by name; those that can be refitted are on the GPU."""
        return self._live

    def weights_changed(self, names: Collection[str]) -> None:
        """Refit these live weights, in order with the calls around it.

        Raises:
            Internal: a weight that the plan was not built to refit, or that TensorRT does not take.
        """
        if not names:
            return
        with self._lock, torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            for execution in self._executions.values():
                execution.forget_graph()
            self._refitter.refit(set(names), self._stream.cuda_stream)
            current.wait_stream(self._stream)

    def _name(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        """The given tensors by the names that the plan has for them."""
        names: dict[str, Tensor] = {}
        arguments = groupby(self._record.graph.inputs, key=lambda name: name.partition(".")[0])
        for (_, parts), value in zip(arguments, inputs, strict=True):
            tensors = [value] if isinstance(value, Tensor) else value
            names.update(zip(parts, tensors, strict=True) if tensors is not None else ())
        return names

    def _find_execution(self, shapes: Mapping[str, tuple[int, ...]]) -> Execution:
        key = tuple(shapes.items())
        execution = self._executions.get(key)
        if execution is None:
            profile = find_profile(self._record.profiles, self._ranges, shapes)
            while len(self._executions) >= EXECUTIONS:
                self._stream.synchronize()  # a context must not go while its work is under way
                self._executions.popitem(last=False)
            logger.info("%s takes %s", self._record.graph.network, self._record.profiles[profile])
            execution = self._executions[key] = Execution(self._library, self._engine, shapes, profile, self._stream)
        self._executions.move_to_end(key)
        return execution


def _unwrap(outputs: tuple[Tensor, ...]) -> Any:
    """As the network's ``forward`` returns them."""
    return outputs if len(outputs) > 1 else outputs[0]


def _read(plan: Path) -> bytes:
    try:
        return plan.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{plan} cannot be read: {error.strerror}; run `scripts/build`") from None


def complete_shapes(given: Mapping[str, tuple[int, ...]], record: PlanRecord) -> dict[str, tuple[int, ...]]:
    """Shapes of all of a plan's inputs, from those of the tensors that are given.

    The UNet's residuals, where not given, have the shapes of its skips and mid; prompts are as many as the batch, which
    the first input has, where only those of the last samples are given.
    """
    shapes = {}
    batch = given[record.graph.inputs[0]][:1]
    for name in record.graph.inputs:
        argument, _, place = name.partition(".")
        if name not in given and argument == "residuals":
            twin = f"skips.{place}"
            shapes[name] = given[twin if twin in given else "mid"]
        elif name == "prompt_embeds":
            shapes[name] = batch + given[name][1:]
        else:
            shapes[name] = given[name]
    return shapes


def fill(place: Tensor, given: Tensor | None) -> None:
    """Write what is given into an input's place, where it has fewer rows into the last ones; the rest is zeros."""
    if given is None:
        place.zero_()
    elif given.shape == place.shape:
        place.copy_(given, non_blocking=True)
    else:
        place[: -len(given)].zero_()
        place[-len(given) :].copy_(given, non_blocking=True)


def require_fresh(record: PlanRecord, plan: Path, network: Network, library: TensorRt, gpu: str) -> None:
    """Refuse a plan that was built from or for something else; raises InvalidArgument."""
    weights = network.weights()
    here = f"{library.kind} {library.version}"
    for what, built, found in (
        ("number type", record.graph.dtype, str(next(iter(weights.values())).dtype).removeprefix("torch.")),
        ("TensorRT", record.tensorrt, here),
        ("GPU", record.gpu, gpu),
    ):
        if built != found:
            raise InvalidArgument(
                f"{plan} is stale: it was built for the {what} {built!r}, and here is {found!r}; run `scripts/build`"
            )
    for what, built, found in (
        ("another configuration", record.graph.configuration, digest_configuration(network.configuration)),
        ("other weights", record.graph.weights, digest_weights(weights)),
    ):
        if built != found:
            raise InvalidArgument(f"{plan} is stale: it was built from {what} than this network's; run `scripts/build`")
