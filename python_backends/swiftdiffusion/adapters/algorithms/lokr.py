"""LoKr (LyCORIS, arXiv 2309.14859): the Kronecker product of two matrices, each whole or itself a product.

The second may hold a convolution's kernel, or have it in a core tensor (``lokr_t2``) with transposed outer factors.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from swiftdiffusion.adapters.algorithms.parts import rank_of, require
from swiftdiffusion.adapters.targets import Shape

PARTS = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")


def expect(shapes: Mapping[str, Shape], weight: Shape) -> tuple[int, dict[str, Shape]]:
    """The first matrix, [a, b], decides the second's, [out / a, in / b]; rank 0 where both are whole."""
    expected: dict[str, Shape] = {}
    rank = 0
    if "lokr_w1" in shapes:
        first = shapes["lokr_w1"]
    else:
        require(shapes, ("lokr_w1_a", "lokr_w1_b"))
        rank = rank_of(shapes["lokr_w1_b"], 0)
        first = (*shapes["lokr_w1_a"][:1], *shapes["lokr_w1_b"][1:2])
    rows, columns = (_divide(whole, first, place) for place, whole in enumerate(weight[:2]))
    first = (weight[0] // rows, weight[1] // columns)
    if "lokr_w1" in shapes:
        expected["lokr_w1"] = first
    else:
        expected |= {"lokr_w1_a": (first[0], rank), "lokr_w1_b": (rank, first[1])}
    if "lokr_w2" in shapes:
        return rank, expected | {"lokr_w2": (rows, columns, *weight[2:])}
    require(shapes, ("lokr_w2_a", "lokr_w2_b"))
    rank = rank_of(shapes["lokr_w2_b"], 0)
    if "lokr_t2" in shapes:
        core = (rank, rank, *weight[2:])
        return rank, expected | {"lokr_t2": core, "lokr_w2_a": (rank, rows), "lokr_w2_b": (rank, columns)}
    kernel = int(torch.Size(weight[2:]).numel())
    return rank, expected | {"lokr_w2_a": (rows, rank), "lokr_w2_b": (rank, columns * kernel)}


def build(tensors: Mapping[str, Tensor], weight: Shape) -> tuple[Tensor, Tensor | None]:
    """The whole change, computed in fp32, in the file's dtype."""
    parts = {name: tensor.float() for name, tensor in tensors.items()}
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_w2" in parts:
        second = parts["lokr_w2"]
    elif "lokr_t2" in parts:
        second = torch.einsum("ijkl,jr,ip->prkl", parts["lokr_t2"], parts["lokr_w2_b"], parts["lokr_w2_a"])
    else:
        second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    first = first.reshape(*first.shape, *(1 for _ in second.shape[2:]))
    return torch.kron(first, second.contiguous()).reshape(weight).to(next(iter(tensors.values())).dtype), None


def _divide(whole: int, first: Shape, place: int) -> int:
    """The second matrix's size; `whole` where the first one's does not divide it, which makes that one wrong."""
    part = first[place] if place < len(first) else 0
    return whole // part if part and whole % part == 0 else whole
