"""A placement for the GPUs that there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion_build.placement.footprints import Footprints
from swiftdiffusion_build.placement.gpus import GIB, Gpu
from swiftdiffusion_build.placement.server_placement import CPU, LANE_GPUS_MAX, ServerPlacement

LANE = "first"
PLANNED_SHARE = 0.75  # of a GPU's memory; activations, captures and LoRAs' pristine weights need the rest


@dataclass(frozen=True)
class Suggestion:
    """A placement, and why it is so, in sentences."""

    placement: ServerPlacement
    reasons: tuple[str, ...]


def suggest_placement(
    footprints: Footprints, gpus: Sequence[Gpu], split_guidance: bool | None = None, resident: bool = True
) -> Suggestion:
    """Suggest one lane with the text encoders and the VAE beside it, and the ControlNets on other GPUs.

    The ControlNets are placed largest first, each on the least loaded of the other GPUs; on the lane's own only where
    no other has room, since there they run before the UNet and not beside it. There the lane runs them itself if
    `resident`, for two processes have a GPU only by turns; else each has a model of its own. Without a GPU all are
    models on the CPU.

    With `split_guidance` the lane has two GPUs, and every ControlNet is on each. None decides by the GPUs: two are used
    so if all of it fits, since the ControlNets alone would leave the second one idle most of the time.

    Raises:
        InvalidArgument: something fits nowhere, or guidance is to be split and cannot be.
    """
    if split_guidance or (split_guidance is None and len(gpus) == LANE_GPUS_MAX):
        try:
            return _split_guidance(footprints, gpus, resident)
        except InvalidArgument:
            if split_guidance:
                raise
    if not gpus:
        everywhere = ServerPlacement(CPU, CPU, {LANE: CPU}, dict.fromkeys(footprints.controlnets, CPU))
        return Suggestion(everywhere, ("There is no GPU: all is on the CPU.",))
    loads = _Loads(gpus)
    lane, text_encoder, vae_decoder = _place_pipeline(footprints, loads)
    others = {*range(len(gpus))} - {lane}
    by_size = sorted(footprints.controlnets.items(), key=lambda item: (-item[1], item[0]))
    controlnets = {name: (loads.place(f"the ControlNet {name!r}", need, others),) for name, need in by_size}
    own = tuple(name for name, numbers in controlnets.items() if resident and lane in numbers)
    served = {name: numbers for name, numbers in controlnets.items() if name not in own}
    placement = ServerPlacement((text_encoder,), (vae_decoder,), {LANE: (lane,)}, served, own)
    return Suggestion(placement, _explain(placement, loads))


def _split_guidance(footprints: Footprints, gpus: Sequence[Gpu], resident: bool) -> Suggestion:
    if len(gpus) < LANE_GPUS_MAX:
        raise InvalidArgument(f"guidance cannot be split over {len(gpus)} GPUs; allowed: {LANE_GPUS_MAX} or more")
    loads = _Loads(gpus)
    first, text_encoder, vae_decoder = _place_pipeline(footprints, loads)
    second = loads.place("the lane's second half", footprints.lane, {1}, but={first})
    lane = first, second
    for name, need in footprints.controlnets.items():
        for gpu in lane:
            loads.place(f"the ControlNet {name!r}", need, {gpu}, but={*range(len(gpus))} - {gpu})
    names = tuple(footprints.controlnets)
    served, own = ({}, names) if resident else (dict.fromkeys(names, lane), ())
    placement = ServerPlacement((text_encoder,), (vae_decoder,), {LANE: lane}, served, own)
    reasons = [
        f"The lane is on {loads.describe(first)} and {loads.describe(second)}: each predicts a half of guidance.",
        f"The text encoders are on GPU {text_encoder}, the VAE is on GPU {vae_decoder}.",
    ]
    if footprints.controlnets:
        what = "The lane runs each ControlNet itself" if resident else "A model of each ControlNet is"
        reasons.append(f"{what} on both, since each half of guidance needs its residuals.")
    return Suggestion(placement, (*reasons, *_explain_rest(loads)))


def _place_pipeline(footprints: Footprints, loads: _Loads) -> tuple[int, int, int]:
    """The lane's GPU, the text encoders' and the VAE's, together if they fit."""
    lane = loads.place("the lane", footprints.lane, {0})
    text_encoder = loads.place("the text encoder", footprints.text_encoder, {lane})
    return lane, text_encoder, loads.place("the VAE", footprints.vae_decoder, {lane})


class _Loads:
    """Bytes planned for each GPU."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._memory = [gpu.memory for gpu in gpus]
        self.taken = [0] * len(gpus)

    def place(self, model: str, need: int, preferred: Collection[int], but: Collection[int] = ()) -> int:
        """Take `need` bytes of the least loaded GPU that has them, a preferred one if any has, and none of `but`."""
        left = [
            0 if number in but else int(memory * PLANNED_SHARE) - taken
            for number, (memory, taken) in enumerate(zip(self._memory, self.taken, strict=True))
        ]
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
        beside = [*placement.resident, *(name for name, numbers in placement.controlnets.items() if lane in numbers)]
        if beside:
            reasons.append(f"No other GPU has room for {', '.join(beside)}, which takes turns with the UNet.")
    if placement.resident:
        reasons.append(
            f"The lane runs {', '.join(placement.resident)} itself: two processes would get its GPU only by turns."
        )
    return (*reasons, *_explain_rest(loads))


def _explain_rest(loads: _Loads) -> Iterator[str]:
    if idle := [str(number) for number, taken in enumerate(loads.taken) if not taken]:
        yield f"Nothing is on GPU {', '.join(idle)}: a further lane there draws a further picture."
    yield (
        "That counts weights in fp16 and a process for each model; "
        f"{1 - PLANNED_SHARE:.0%} of a GPU or more is left for activations, captures and LoRAs."
    )
