"""LoRA (arXiv 2106.09685): the product of two small matrices; of two convolutions, the second 1x1."""

from collections.abc import Mapping

from torch import Tensor

from swiftdiffusion.adapters.algorithms.parts import rank_of, require
from swiftdiffusion.adapters.targets import Shape

PARTS = ("down", "up")


def expect(shapes: Mapping[str, Shape], weight: Shape) -> tuple[int, dict[str, Shape]]:
    """The kernel of a convolution is in the down factor."""
    require(shapes, PARTS)
    rank = rank_of(shapes["down"], 0)
    return rank, {"down": (rank, *weight[1:]), "up": (weight[0], rank, *(1 for _ in weight[2:]))}


def build(tensors: Mapping[str, Tensor], weight: Shape) -> tuple[Tensor, Tensor | None]:
    """As they are."""
    return tensors["down"], tensors["up"]
