"""The parameters of an exported graph: under their names in the checkpoint, each at most transposed.

torch's exporter writes a linear layer as MatMul(x, Transpose(weight)). Optimisers fold that into a nameless
constant, and what has no name cannot be refitted. So it is folded here, under the weight's own name.
"""

from __future__ import annotations

import onnx_ir
from onnx_ir.tensor_adapters import TorchTensor
from torch import Tensor

from swiftdiffusion.errors import Internal
from swiftdiffusion.networks.network import Network


def name_parameters(graph: onnx_ir.Graph, network: Network) -> list[str]:
    """Name every parameter of `graph` as ``network.weights()`` does, and fold the transpositions of them.

    Returns:
        The names of those that the graph holds transposed.

    Raises:
        Internal: the graph lacks a parameter.
    """
    own_names = {network.prefix + name: name for name in network.weights()}
    if missing := sorted(own_names.keys() - graph.initializers.keys()):
        raise Internal(f"the exported graph lacks {len(missing)} parameters, among them {missing[0]!r}")
    transposed = []
    for graph_name, name in own_names.items():
        value = graph.initializers[graph_name]
        if _fold_transposition(graph, value):
            transposed.append(name)
        value.name = name
    return transposed


def _fold_transposition(graph: onnx_ir.Graph, value: onnx_ir.Value) -> bool:
    users = [user for user, _ in value.uses()]
    if not users or any(user.op_type != "Transpose" for user in users):
        return False
    tensor: Tensor = value.const_value.raw  # type: ignore[union-attr]
    value.const_value = TorchTensor(tensor.detach().T.contiguous(), name=value.name)
    value.shape = onnx_ir.Shape(reversed(value.shape))  # type: ignore[arg-type]
    for user in users:
        onnx_ir.convenience.replace_all_uses_with(user.outputs[0], value)
        graph.remove(user, safe=True)
    return True
