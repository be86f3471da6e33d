"""LoHa (FedPara, arXiv 2108.06098; LyCORIS, arXiv 2309.14859): the elementwise product of two LoRAs.

A convolution has either flattened factors or, with a core tensor each (``hada_t1``, ``hada_t2``), a Tucker
decomposition, whose outer factors are transposed: [rank, out] and [rank, in].
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from swiftdiffusion.adapters.algorithms.parts import flatten, rank_of, require
from swiftdiffusion.adapters.targets import Shape

PARTS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")


def expect(shapes: Mapping[str, Shape], weight: Shape) -> tuple[int, dict[str, Shape]]:
    """Both halves have the rank that ``hada_w1_b`` tells."""
    require(shapes, PARTS[:4])
    rank = rank_of(shapes["hada_w1_b"], 0)
    if "hada_t1" in shapes or "hada_t2" in shapes:
        require(shapes, PARTS[4:])
        outer, inner, core = (rank, weight[0]), (rank, weight[1]), (rank, rank, *weight[2:])
        halves: dict[str, Shape] = {f"hada_w{half}_a": outer for half in (1, 2)}
        halves |= {f"hada_w{half}_b": inner for half in (1, 2)}
        return rank, halves | {"hada_t1": core, "hada_t2": core}
    rows, columns = flatten(weight)
    outer, inner = (rows, rank), (rank, columns)
    return rank, {"hada_w1_a": outer, "hada_w1_b": inner, "hada_w2_a": outer, "hada_w2_b": inner}


def build(tensors: Mapping[str, Tensor], weight: Shape) -> tuple[Tensor, Tensor | None]:
    """The whole change, computed in fp32, in the file's dtype."""
    change = _multiply_half(tensors, 1) * _multiply_half(tensors, 2)
    return change.reshape(weight).to(tensors["hada_w1_a"].dtype), None


def _multiply_half(tensors: Mapping[str, Tensor], half: int) -> Tensor:
    left, right = (tensors[f"hada_w{half}_{side}"].float() for side in "ab")
    core = tensors.get(f"hada_t{half}")
    return left @ right if core is None else torch.einsum("ijkl,jr,ip->prkl", core.float(), right, left)
