"""How much of a GPU's memory each model takes at least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from swiftdiffusion.networks.weight_files import count_weights
from swiftdiffusion_build.export.subjects import Checkpoint

BYTES_A_WEIGHT = 2  # on a GPU all networks are in fp16, whatever their files hold
PROCESS_BYTES = 512 * 2**20  # of the CUDA context of each model instance's process


@dataclass(frozen=True)
class Footprints:
    """Bytes of one instance of each model: its weights and its process; activations come on top."""

    lane: int
    text_encoder: int
    vae_decoder: int
    controlnets: Mapping[str, int]

    def of(self, entry: str) -> int:
        """That of an entry of a placement, such as ``lanes.first`` or ``controlnets.edges``."""
        kind, _, name = entry.partition(".")
        if kind == "controlnets":
            return self.controlnets[name]
        return self.lane if kind == "lanes" else getattr(self, kind)


def read_footprints(checkpoint: Checkpoint) -> Footprints:
    """Read them off the headers of a checkpoint's safetensors files.

    Raises:
        InvalidArgument: a folder without weights, or with a file that is broken.
    """

    def measure(*folders: Path) -> int:
        return BYTES_A_WEIGHT * sum(map(count_weights, folders)) + PROCESS_BYTES

    pipeline = checkpoint.pipeline
    return Footprints(
        lane=measure(pipeline / "unet"),
        text_encoder=measure(pipeline / "text_encoder", pipeline / "text_encoder_2"),
        vae_decoder=measure(pipeline / "vae"),
        controlnets={folder.name: measure(folder) for folder in checkpoint.controlnets},
    )
