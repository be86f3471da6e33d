"""What is compared behind Triton."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

OURS, STOCK, BEST = "ours", "stock", "best"
LABELS = {OURS: "SwiftDiffusion", STOCK: "diffusers, stock", BEST: "diffusers, at its best"}
"""By the names of the command line.

`stock` is diffusers as its documentation writes it: `StableDiffusionXLPipeline` or its ControlNet sibling in fp16, for
each request `load_lora_weights`, `set_adapters` and `unload_lora_weights`. `best` is what its documentation on speed
adds: channels last, `torch.compile` with CUDA graphs, LoRAs swapped in place (`enable_lora_hotswap`).
"""
MODELS = {OURS: "swiftdiffusion", STOCK: "diffusers", BEST: "diffusers"}
"""The Triton model that answers; all take the same inputs."""


class AddOns(NamedTuple):
    """How many add-on modules a request has; written as in 3/2, ControlNets first, as the published table does."""

    controlnets: int
    loras: int

    def __str__(self) -> str:
        return f"{self.controlnets}/{self.loras}"

    @classmethod
    def parse(cls, text: str) -> AddOns:
        """Read what `str` writes; raises ValueError with what is allowed."""
        controlnets, slash, loras = text.partition("/")
        if not slash or controlnets not in ("0", "1", "2", "3") or loras not in ("0", "1", "2"):
            raise ValueError(f"configuration {text!r} is not CONTROLNETS/LORAS, from 0/0 to 3/2")
        return cls(int(controlnets), int(loras))


def read_add_ons(text: str) -> AddOns:
    """`AddOns.parse` for argparse."""
    try:
        return AddOns.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def name_layout(gpus: int) -> str:
    """How rows and tables call so many GPUs that a system's models are on."""
    return {0: "no GPU", 1: "one GPU", 2: "two GPUs"}.get(gpus, f"{gpus} GPUs")


def name_place(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What a row's `Deployment.describe` says of GPUs; of the machine only where the rows are not all of one."""
    several = len({other["machine"] for other in rows}) > 1
    return f"{row['layout']} ({row['machine']})" if several else row["layout"]


PUBLISHED = tuple(map(AddOns.parse, ("0/0", "1/0", "0/1", "1/1", "3/0", "2/2", "3/2")))

Request = dict[str, list[Any]]
"""A request's inputs by name: texts, bytes, whole numbers, floats or truth values."""
