"""A network to an ONNX model with its own nodes, their bodies, and its parameters under their names."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor

from swiftdiffusion.engines.tensorrt.records import Size
from swiftdiffusion.networks.network import Network
from swiftdiffusion_build.export.parameters import name_parameters
from swiftdiffusion_build.export.specification import Inputs, TensorSpecification, flatten, nest
from swiftdiffusion_build.export.subjects import Subject
from swiftdiffusion_build.export.substitution import substitute
from swiftdiffusion_operators.domain import NAME, VERSION
from swiftdiffusion_operators.onnx import BODIES, OPSET

# Any would do: lengths that are neither 0 nor 1 and differ, at every level of the UNet.
_TRACED = Size(batch=3, height=160, width=224)


@dataclass(frozen=True)
class Traced:
    """An ONNX model in memory."""

    model: onnx_ir.Model
    transposed: tuple[str, ...]  # parameters that it holds as [in, out]
    operators: int  # nodes of the project's domain


def trace(network: Network, subject: Subject) -> Traced:
    """Export a subject's network, which is changed in the course of that and of no other use afterwards.

    Raises:
        Internal: a parameter was lost on the way.
    """
    network = network.eval().requires_grad_(False)
    substitute(network)
    with _quiet():
        program: Any = torch.onnx.export(
            network,
            make_inputs(subject.inputs, _TRACED),
            dynamic_shapes=_make_axes(network, subject.inputs),
            input_names=list(flatten(subject.inputs)),
            output_names=list(subject.outputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # torch's optimiser folds parameters into constants without a name
            verbose=False,
        )
    model: onnx_ir.Model = program.model
    ClearMetadataAndDocStringPass()(model)  # each node's stack trace, with this machine's paths
    transposed = name_parameters(model.graph, network)
    return Traced(model, tuple(transposed), _add_bodies(model))


def make_inputs(inputs: Inputs, size: Size, generator: torch.Generator | None = None) -> tuple[Any, ...]:
    """Random arguments for ``forward`` at a size: integers below 100, numbers of deviation 1."""

    def draw(tensor: TensorSpecification) -> Tensor:
        shape = tensor.shape(size)
        if not tensor.dtype.is_floating_point:
            return torch.randint(100, shape, dtype=tensor.dtype, generator=generator)
        return torch.randn(shape, generator=generator).to(tensor.dtype)

    return nest(inputs, draw)


def _make_axes(network: Network, inputs: Inputs) -> tuple[Any, ...]:
    axes = nest(inputs, TensorSpecification.axes)
    parameters = signature(network.forward).parameters.values()
    # torch.export takes what a starred parameter gathers as one argument
    return (axes,) if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters) else axes


def _add_bodies(model: onnx_ir.Model) -> int:
    """Give the model a body for every operator's node; returns how many nodes there are."""
    nodes = [node for node in model.graph if node.domain == NAME]
    for proto in BODIES.values():
        function = onnx_ir.serde.deserialize_function(proto)
        model.functions[function.identifier()] = function
    model.graph.opset_imports[NAME] = VERSION
    return len(nodes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's advice on its own internals from a person who cannot act on it."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
