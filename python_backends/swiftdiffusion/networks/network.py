"""What every network is."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Network(nn.Module):
    """A module with only tensors in and out, whose weights answer to their names in the checkpoint."""

    prefix: ClassVar[str] = ""  # what wrapping a library's module put before the names

    def weights(self) -> dict[str, Tensor]:
        """The live weights by the names that they have in the checkpoint's file."""
        return {name.removeprefix(self.prefix): weight for name, weight in self.named_parameters()}
