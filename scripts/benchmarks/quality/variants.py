"""The shortcuts, each with the server that takes it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.quality.subjects import SETS
from benchmarks.serving.repositories import Tuning

BOUND = 5  # the default of `lora_bound`, of 30 steps


@dataclass(frozen=True)
class Layout:
    """Where that server's models are: as `scripts/build placement` suggests with these options."""

    split_guidance: bool | None = False
    resident: bool = False
    gpus: int | None = None  # so many of the machine's; None for all


@dataclass(frozen=True)
class Variant:
    """One way to draw."""

    name: str
    label: str
    tuning: Tuning  # of the server that draws so
    sets: tuple[str, ...] = SETS  # what it can change
    bound: int = 0  # the last step that may start without the LoRA
    layout: Layout = Layout()


def name_late(step: int) -> str:
    """The variant whose LoRAs come at `step`."""
    return f"late_{step}"


def list_variants(gpus: int) -> list[Variant]:
    """All that a machine with so many GPUs can serve."""
    exact = Tuning(networks={"engine": "torch", "dtype": "fp32"}, lane={"controlnet_transport": "bls"})
    variants = [Variant("exact", "fp32, PyTorch, LoRAs from the first step", exact)]
    if not gpus:
        return variants
    half = {"engine": "torch", "dtype": "fp16"}
    fused = {"engine": "cuda_graph", "dtype": "fp16"}
    variants += [
        Variant("fp16", "fp16, PyTorch", Tuning(networks=half, lane=exact.lane)),
        Variant("fused", "fp16, fused kernels, CUDA graphs, calls by BLS", Tuning(networks=fused, lane=exact.lane)),
        Variant(
            "ipc",
            "the same, ControlNets over CUDA IPC",
            Tuning(networks=fused, lane={"controlnet_transport": "ipc"}),
            ("controlnet",),
        ),
        Variant(
            "lane",
            "the same, ControlNets run by the lane",
            Tuning(networks=fused),
            ("controlnet",),
            layout=Layout(resident=True, gpus=1),
        ),
    ]
    if gpus > 1:
        split = Tuning(networks=fused, lane={**exact.lane, "second_gpu": "cuda:1"})
        variants.append(Variant("split", "fused, guidance split over two GPUs", split))
    suggested = Layout(split_guidance=None, resident=True)
    label = f"as it is served on {gpus} GPU{'s' * (gpus > 1)}: fused, bound {BOUND}"
    variants.append(Variant("default", label, Tuning(networks=fused), SETS, BOUND, suggested))
    return variants
