"""How many elements a network's largest tensor has at a size, of which TensorRT allows fewer than 2^31.

That is the limit of TensorRT 10; its own name for the number is the tensor's volume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from swiftdiffusion.engines.tensorrt.records import Size
from swiftdiffusion.networks.network import Network
from swiftdiffusion_build.export.specification import Inputs, TensorSpecification, nest

VOLUME_LIMIT = 2**31


def measure_volume(network: Network, inputs: Inputs, size: Size) -> int:
    """Run a network without its values, and see what every operation gives.

    Attention counts as it is exported, with all of its scores in one tensor.

    Args:
        network: on the meta device.
        inputs: of the network.
        size: of the inputs.
    """

    def draw(tensor: TensorSpecification) -> Tensor:
        return torch.empty(tensor.shape(size), dtype=tensor.dtype, device="meta")

    # not in inference mode, in which operations that consist of others are not taken apart
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Largest() as largest:
        network(*nest(inputs, draw))
    return largest.volume


class _Largest(TorchDispatchMode):
    """Sees the results of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.volume = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        volumes = [result.numel() for result in tree_leaves(results) if isinstance(result, Tensor)]
        self.volume = max(self.volume, *volumes, 0)
        return results
