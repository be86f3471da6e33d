"""A placement for the GPUs that there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion_build.placement.footprints import Footprints
from swiftdiffusion_build.placement.gpus import GIB, Gpu
from swiftdiffusion_build.placement.server_placement import CPU, ServerPlacement

LANE = "first"
PLANNED_SHARE = 0.75  # of a GPU's memory; activations, captures and LoRAs' pristine weights need the rest


@dataclass(frozen=True)
class Suggestion:
    """A placement, and why it is so, in sentences."""

    placement: ServerPlacement
    reasons: tuple[str, ...]


def suggest_placement(footprints: Footprints, gpus: Sequence[Gpu]) -> Suggestion:
    """Suggest one lane with the text encoders and the VAE beside it, and the ControlNets on other GPUs.

    The ControlNets are placed largest first, each on the least loaded of the other GPUs; on the lane's own only where
    no other has room, since there they run after the UNet and not beside it. Without a GPU all are on the CPU.

    Raises:
        InvalidArgument: something fits nowhere.
    """
    if not gpus:
        everywhere = ServerPlacement(CPU, CPU, {LANE: CPU}, dict.fromkeys(footprints.controlnets, CPU))
        return Suggestion(everywhere, ("There is no GPU: all is on the CPU.",))
    loads = _Loads(gpus)
    lane = loads.place("the lane", footprints.lane, {0})
    text_encoder = loads.place("the text encoder", footprints.text_encoder, {lane})
    vae_decoder = loads.place("the VAE", footprints.vae_decoder, {lane})
    others = {*range(len(gpus))} - {lane}
    by_size = sorted(footprints.controlnets.items(), key=lambda item: (-item[1], item[0]))
    controlnets = {name: (loads.place(f"the ControlNet {name!r}", need, others),) for name, need in by_size}
    placement = ServerPlacement((text_encoder,), (vae_decoder,), {LANE: (lane,)}, controlnets)
    return Suggestion(placement, _explain(placement, loads))


class _Loads:
    """Bytes planned for each GPU."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._memory = [gpu.memory for gpu in gpus]
        self.taken = [0] * len(gpus)

    def place(self, model: str, need: int, preferred: Collection[int]) -> int:
        """Take `need` bytes of the least loaded GPU that has them, a preferred one if any of those has."""
        left = [int(memory * PLANNED_SHARE) - taken for memory, taken in zip(self._memory, self.taken, strict=True)]
        fitting = [number for number, free in enumerate(left) if need <= free]
        if not fitting:
            raise InvalidArgument(
                f"{model} needs {need / GIB:.2f} GiB, and the most that is left of a GPU is {max(left) / GIB:.2f}, "
                f"where {PLANNED_SHARE:.0%} of its memory is planned for; allowed: fewer models, or larger or more GPUs"
            )
        chosen = min(fitting, key=lambda number: (number not in preferred, self.taken[number], number))
        self.taken[chosen] += need
        return chosen

    def describe(self, number: int) -> str:
        """A GPU with what is taken of it."""
        return f"GPU {number} ({self.taken[number] / GIB:.2f} of {self._memory[number] / GIB:.2f} GiB)"


def _explain(placement: ServerPlacement, loads: _Loads) -> tuple[str, ...]:
    (lane,), (text_encoder,), (vae_decoder,) = placement.lanes[LANE], placement.text_encoder, placement.vae_decoder
    reasons = []
    if len(loads.taken) == 1:
        reasons.append(f"There is one GPU: all is on {loads.describe(lane)}.")
    else:
        reasons.append(
            f"The lane is on {loads.describe(lane)}, the text encoders are on GPU {text_encoder}, "
            f"the VAE is on GPU {vae_decoder}."
        )
        apart = sorted({number for (number,) in placement.controlnets.values() if number != lane})
        if apart:
            reasons.append(
                "ControlNets are on other GPUs, where they run beside the UNet's encoder half; largest first, each on "
                f"the least loaded: {', '.join(map(loads.describe, apart))}."
            )
        if beside := [name for name, numbers in placement.controlnets.items() if lane in numbers]:
            reasons.append(f"No other GPU has room for {', '.join(beside)}, which takes turns with the UNet.")
        if idle := [str(number) for number, taken in enumerate(loads.taken) if not taken]:
            reasons.append(f"Nothing is on GPU {', '.join(idle)}: a further lane there draws a further picture.")
    reasons.append(
        "That counts weights in fp16 and a process for each model; "
        f"{1 - PLANNED_SHARE:.0%} of a GPU or more is left for activations, captures and LoRAs."
    )
    return tuple(reasons)
