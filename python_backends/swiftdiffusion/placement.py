"""Where a network runs: device, number type and CPU threads, from configuration and what the machine has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from swiftdiffusion.configuration import require_range
from swiftdiffusion.errors import InvalidArgument

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Placement:
    """A device and the number type of the weights and activations there."""

    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class NetworkConfiguration:
    """The parameters that every model with a network has."""

    device: str = "auto"  # cpu, cuda or cuda:N
    dtype: str = "auto"  # a key of DTYPES
    engine: str = "auto"
    plans: Path | None = None  # for TensorRT: the folder of plans
    threads: int = 0  # CPU threads; 0: one a core for a network on the CPU, one for a network on a GPU
    captures: int = 4  # how many shapes the cuda_graph engine keeps
    warm_up: str = ""  # pictures' sizes that it captures at the start: "1024x1024, 768x1344"

    def __post_init__(self) -> None:
        require_range("threads", self.threads, 0, 1024)
        require_range("captures", self.captures, 1, 64)
        if len(self.warm_up_sizes) > self.captures:
            raise InvalidArgument(
                f"parameter 'warm_up' names more sizes than 'captures' keeps, which is {self.captures}"
            )

    @property
    def prompted_captures(self) -> int:
        """How many shapes of a network that reads prompts: each with a negative prompt and without."""
        return 2 * self.captures

    @property
    def warm_up_sizes(self) -> list[tuple[int, int]]:
        """The sizes (height, width) in pixels that `warm_up` names as width x height; raises InvalidArgument."""
        sizes = []
        for size in filter(None, (part.strip() for part in self.warm_up.split(","))):
            match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
            if not match or any(int(side) % 8 or not int(side) for side in match.groups()):
                raise InvalidArgument(
                    f"parameter 'warm_up' has {size[:32]!r}; allowed: WIDTHxHEIGHT, multiples of 8, with commas between"
                )
            sizes.append((int(match[2]), int(match[1])))
        return sizes

    def plan(self, network: str) -> Path | None:
        """The file of a network's plan, where there is a folder of them."""
        return self.plans and self.plans / f"{network}.plan"


def choose_placement(device: str, dtype: str, instance_kind: str, instance_device: int) -> Placement:
    """Turn configuration into a placement.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. ``auto`` takes the GPU of the model's
            ``instance_group`` where it names one, else the first GPU that torch sees, else the CPU.
        dtype: ``auto``, ``fp32``, ``fp16`` or ``bf16``. ``auto`` is fp16 on a GPU and fp32 on the CPU,
            which computes fp16 far slower.
        instance_kind: Triton's ``model_instance_kind``: CPU, GPU or MODEL.
        instance_device: Triton's ``model_instance_device_id``.

    Raises:
        InvalidArgument: a device that is none of these or that torch does not see, or an unknown number type.
    """
    if device == "auto":
        if instance_kind == "GPU":
            device = f"cuda:{instance_device}"
        else:
            device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d?))?", device):  # torch reads more than that, and 300 as 44
        raise InvalidArgument(f"parameter 'device' is {device!r}; allowed: auto, cpu, cuda, cuda:N")
    place = torch.device(device)
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InvalidArgument(f"parameter 'device' is {device!r}; torch sees {torch.cuda.device_count()} GPUs")
    if dtype == "auto":
        dtype = "fp32" if place.type == "cpu" else "fp16"
    if dtype not in DTYPES:
        raise InvalidArgument(f"parameter 'dtype' is {dtype!r}; allowed: auto, {', '.join(DTYPES)}")
    return Placement(place, DTYPES[dtype])


def choose_second(parameter: str, first: Placement) -> list[Placement]:
    """The placement of a lane's second GPU, if it has one.

    Args:
        parameter: empty; ``cuda:N`` for a single lane; ``cuda:0=cuda:1, cuda:2=cuda:3`` where lanes on several GPUs
            have one each.
        first: the lane's.

    Raises:
        InvalidArgument: anything else, or a GPU that is not there or is the lane's own.
    """
    home = f"cuda:{first.device.index or 0}"
    pairs = [part.strip().rpartition("=") for part in parameter.split(",")] if parameter else []
    for owner, _, second in pairs:
        if owner and owner != home:
            continue
        gpus = {f"cuda:{number}" for number in range(torch.cuda.device_count())}
        if first.device.type != "cuda" or second not in gpus - {home}:
            raise InvalidArgument(
                f"parameter 'second_gpu' gives {second!r} to the lane on {first.device}; allowed: another GPU of "
                f"{', '.join(sorted(gpus)) or 'those that torch sees, which are none'}"
            )
        return [Placement(torch.device(second), first.dtype)]
    return []


def name_gpu(device: torch.device) -> str:
    """A GPU's own name, the same in every process; empty for the CPU."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; from host to GPU enqueued on its current stream, which nobody waits for.

    A GPU takes by itself from pinned memory alone: from other memory the host has to hand over, and waits for that
    until the GPU has done all that was enqueued before, and then finds nothing to go on with.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)  # an expanded tensor cannot be pinned
