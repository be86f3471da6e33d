"""The operators as ONNX nodes, each with a body of standard operators for the same file.

TensorRT's parser takes a node for the plugin of its name; onnxruntime runs the body.
"""

from swiftdiffusion_operators.onnx.geglu import GEGLU, emit_geglu
from swiftdiffusion_operators.onnx.group_norm_silu import GROUP_NORMS, emit_group_norm
from swiftdiffusion_operators.onnx.node import OPSET

BODIES = {body.name: body for body in (GEGLU, *GROUP_NORMS)}

__all__ = ["BODIES", "OPSET", "emit_geglu", "emit_group_norm"]
