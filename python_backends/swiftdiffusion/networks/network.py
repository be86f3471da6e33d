"""What every network is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn


class Network(nn.Module):
    """A module with only tensors in and out, whose weights answer to their names in the checkpoint.

    The last `steady` inputs stay the same for all steps of a picture: what depends on them alone is `prepare`'s
    work, and an engine may do it once and then only take steps.
    """

    prefix: ClassVar[str] = ""  # what wrapping a library's module put before the names
    steady: ClassVar[int] = 0
    configuration: Mapping[str, Any] = MappingProxyType({})  # its ``config.json`` with the library's defaults

    def prepare(self, *steady: Any) -> Any:
        """Compute what depends on the steady inputs and the weights alone, for `step`."""
        return steady

    def step(self, *inputs: Any) -> Any:
        """Compute the rest from the other inputs and, last, what `prepare` returned."""
        raise NotImplementedError

    def forward(self, *inputs: Any) -> Any:
        """Run the whole network."""
        moving = len(inputs) - self.steady
        return self.step(*inputs[:moving], self.prepare(*inputs[moving:]))

    def weights(self) -> dict[str, Tensor]:
        """The live weights by the names that they have in the checkpoint's file."""
        return {name.removeprefix(self.prefix): weight for name, weight in self.named_parameters()}
