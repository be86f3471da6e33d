"""How a node of the operators' domain comes into a graph that torch exports, and how its body is written."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import torch
from torch import Tensor

from swiftdiffusion_operators.domain import NAME, VERSION

OPSET = 18  # of the standard operators: that of torch's translations, which need no conversion then

# TensorRT's parser finds a plugin by the node's name and these two attributes.
_PLUGIN = {"plugin_namespace": NAME, "plugin_version": str(VERSION)}


def emit(name: str, inputs: tuple[Tensor, ...], attributes: Mapping[str, int | float], like: Tensor) -> Tensor:
    """Stand for the node `name` in an export; its output has the shape and dtype of `like`.

    Only for export: called outside of one, it gives zeros.
    """
    return torch.onnx.ops.symbolic(
        f"{NAME}::{name}",
        inputs,
        attrs={**attributes, **_PLUGIN},
        dtype=like.dtype,
        shape=like.shape,
        version=VERSION,
    )


def body(signature: str, *statements: str) -> onnx.FunctionProto:
    """Define a node by standard operators.

    Args:
        signature: ``Name <attributes> (inputs) => (outputs)`` in ONNX's text syntax (onnx/docs/Syntax.md).
        statements: one node each, in the same syntax.
    """
    head = f'<domain: "{NAME}", opset_import: ["": {OPSET}, "{NAME}": {VERSION}]>'
    return onnx.parser.parse_function("\n".join((head, signature, "{", *statements, "}")))
