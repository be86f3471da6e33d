"""How trainers write down the change of a weight: which tensors, of which shapes, and what they make."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from swiftdiffusion.adapters.algorithms import loha, lokr, lora
from swiftdiffusion.adapters.targets import Shape


@dataclass(frozen=True)
class Algorithm:
    """What a file of this kind holds for one weight.

    `parts` are the names of its tensors. `expect` takes the shapes found, by part, and the weight's, gives the rank
    and the shape that each part must have, and raises `MissingPartError`. `build` makes ``(down, up)`` of `Factors`
    from the tensors, by part, and the weight's shape, on any device.
    """

    parts: tuple[str, ...]
    expect: Callable[[Mapping[str, Shape], Shape], tuple[int, dict[str, Shape]]]
    build: Callable[[Mapping[str, Tensor], Shape], tuple[Tensor, Tensor | None]]


ALGORITHMS = {
    "LoRA": Algorithm(lora.PARTS, lora.expect, lora.build),
    "LoHa": Algorithm(loha.PARTS, loha.expect, loha.build),
    "LoKr": Algorithm(lokr.PARTS, lokr.expect, lokr.build),
}
