"""Layouts by a file's form: the LoRAs of one trainer have the same names and shapes, and differ in their values."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch

from swiftdiffusion.adapters.layout import LoraLayout, lay_out
from swiftdiffusion.adapters.peft_names import METADATA_KEY
from swiftdiffusion.adapters.safetensors_file import Header
from swiftdiffusion.adapters.targets import Shape, Targets


@dataclass(frozen=True)
class Form:
    """All that a layout follows from, and one file that has it."""

    parameters: frozenset[tuple[str, torch.dtype, Shape]]
    metadata: str | None
    name: str = field(compare=False)
    header: Header = field(compare=False)


class Layouts:
    """`lay_out` for one pipeline, which keeps `kept` layouts. Thread-safe."""

    def __init__(self, targets: Targets, kept: int) -> None:
        self._lay_out = lru_cache(maxsize=kept)(lambda form: lay_out(form.name, form.header, targets))

    def find(self, name: str, header: Header) -> LoraLayout:
        """The layout of the file of the LoRA `name`; raises what `lay_out` raises."""
        return self._lay_out(Form(header.parameters, header.metadata.get(METADATA_KEY), name, header))
