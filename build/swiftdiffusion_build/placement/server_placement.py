"""Where each model of a server runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from swiftdiffusion.errors import InvalidArgument, shorten

Gpus = tuple[int, ...]  # as CUDA counts them, an instance of the model on each
CPU: Gpus = ()

LANE_GPUS_MAX = 2
_LANE_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")  # it becomes the name of Triton's instance


@dataclass(frozen=True)
class ServerPlacement:
    """The GPUs of each model; what no machine could serve is refused.

    Raises:
        InvalidArgument: naming the entry, its value and what is allowed.
    """

    text_encoder: Gpus
    vae_decoder: Gpus
    lanes: Mapping[str, Gpus]  # of two, the second predicts guidance's negative half
    controlnets: Mapping[str, Gpus] = field(default_factory=dict)  # as requests name them
    resident: tuple[str, ...] = ()  # further ControlNets, which each lane runs itself

    def __post_init__(self) -> None:
        for entry, gpus in self.entries().items():
            for gpu in gpus:
                if gpu < 0:
                    raise InvalidArgument(f"{entry} names GPU {gpu}; they are counted from 0")
                if gpus.count(gpu) > 1:
                    raise InvalidArgument(f"{entry} names GPU {gpu} twice; allowed: an instance on each GPU")
        if not self.lanes:
            raise InvalidArgument("there is no lane; allowed: at least one in [lanes], such as `first = 0`")
        owners: dict[int, str] = {}
        for name, gpus in self.lanes.items():
            if not _LANE_NAME.fullmatch(name):
                raise InvalidArgument(f"a lane is called {shorten(name)}; allowed: up to 32 letters, digits, _ and -")
            if len(gpus) > LANE_GPUS_MAX:
                raise InvalidArgument(
                    f"lanes.{name} names {len(gpus)} GPUs, {list(gpus)}; allowed: one, or two that share the work of "
                    "guidance (for several pictures at a time, write several lanes)"
                )
            for gpu in gpus:
                if gpu in owners:
                    raise InvalidArgument(
                        f"lanes.{name} and lanes.{owners[gpu]} name the same GPU {gpu}, where they would only wait for "
                        "each other; allowed: a GPU of its own for each lane"
                    )
                owners[gpu] = name
        if owners and not all(self.lanes.values()):
            raise InvalidArgument("some lanes are on a GPU and others on the CPU; allowed: one kind for all of them")
        named: dict[str, str] = {}
        for name in self.controlnets:
            for model in self.controlnet_models(name):
                if named.setdefault(model, name) != name:
                    raise InvalidArgument(
                        f"controlnets.{named[model]} and controlnets.{name} would both have a model {model!r}; "
                        "allowed: another folder's name, or one GPU for the ControlNet that has several"
                    )

    def controlnet_models(self, name: str) -> dict[str, Gpus]:
        """A model for each GPU of a ControlNet, so that lanes can choose among them, and where it runs."""
        gpus = self.controlnets[name]
        return {name: gpus[:1], **{f"{name}.gpu{gpu}": (gpu,) for gpu in gpus[1:]}}

    def lane_gpus(self) -> Gpus:
        """Those of all lanes."""
        return tuple(gpu for gpus in self.lanes.values() for gpu in gpus)

    def entries(self) -> dict[str, Gpus]:
        """The GPUs by the entry's name in the file: ``text_encoder``, ``lanes.first``, ``controlnets.edges``."""
        return {
            "text_encoder": self.text_encoder,
            "vae_decoder": self.vae_decoder,
            **{f"lanes.{name}": gpus for name, gpus in self.lanes.items()},
            **{f"controlnets.{name}": gpus for name, gpus in self.controlnets.items()},
            **dict.fromkeys((f"controlnets.{name}" for name in self.resident), self.lane_gpus()),
        }
