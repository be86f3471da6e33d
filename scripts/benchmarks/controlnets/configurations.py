"""What the part `steps` compares: lanes and ControlNets of one server, on one GPU and on two."""

from __future__ import annotations

from dataclasses import dataclass

from swiftdiffusion.controlnets.messages import BLS, IPC

AUTO_LANE, BLS_LANE, SPLIT_LANE = "swiftdiffusion", "swiftdiffusion_bls", "swiftdiffusion_split"
BESIDE_LANE = "swiftdiffusion_beside"  # whose encoder half does not wait for ControlNets on its GPU
NEAR, FAR = "near", "far"  # the same weights, on the lane's GPU and on the second one
BOTH = "both"  # the same again, on each of the two


@dataclass(frozen=True)
class Configuration:
    """Requests of one kind, to one lane."""

    name: str
    label: str
    lane: str = AUTO_LANE
    controlnets: tuple[str, ...] = ()
    gpus: int = 1  # how many it takes, where there are any
    on_cpu: bool = True  # whether it is anything of its own where there are none
    transport: str = IPC  # by which the ControlNet has to be attached on GPUs
    guidance: float = 1.0  # by which the guidance scale is multiplied

    @property
    def is_slow(self) -> bool:
        """Whether a step takes so long that a few of them tell it."""
        return self.lane == BLS_LANE


CONFIGURATIONS = (
    Configuration("none", "no ControlNet"),
    Configuration("far", "ControlNet on the second GPU", controlnets=(FAR,), gpus=2),
    Configuration("near", "ControlNet on the same GPU", controlnets=(NEAR,)),
    Configuration("near_beside", "same GPU, beside the encoder half", BESIDE_LANE, (NEAR,), on_cpu=False),
    Configuration("near_bls", "same GPU, by BLS", BLS_LANE, (NEAR,), transport=BLS),
    Configuration("far_bls", "second GPU, by BLS", BLS_LANE, (FAR,), gpus=2, transport=BLS),
    Configuration("split", "guidance on two GPUs", SPLIT_LANE, gpus=2),
    Configuration("split_far", "guidance on two GPUs, ControlNet on one", SPLIT_LANE, (FAR,), gpus=2),
    Configuration("split_both", "guidance on two GPUs, ControlNet on both", SPLIT_LANE, (BOTH,), gpus=2),
)
"""In the order of a round."""

NUDGED = Configuration("nudged", "guidance scale nudged", guidance=1 + 2**-11)
"""Only drawn: what half a rounding of fp16, made once, is to the picture."""
COMPARED = (
    ("far", "near"),
    ("far", "far_bls"),
    ("near", "near_beside"),
    ("near", "near_bls"),
    ("split", "none"),
    ("split_far", "far"),
    ("split_both", "split_far"),
    ("nudged", "none"),
    ("near", "none"),
)
"""Configurations that should draw the same picture; the last two should not, or the others say nothing."""


def choose_configurations(gpus: int) -> tuple[Configuration, ...]:
    """Those that a machine with so many GPUs can serve, without `NUDGED`."""
    if not gpus:
        return tuple(one for one in CONFIGURATIONS if one.gpus == 1 and one.on_cpu)
    return tuple(one for one in CONFIGURATIONS if one.gpus <= gpus)
