"""The weights of a pipeline that LoRAs may change, by name and shape, from the files' headers alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from swiftdiffusion.adapters.safetensors_file import MalformedFileError, read_header
from swiftdiffusion.errors import InvalidArgument

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
NETWORKS = ("unet", *TEXT_ENCODERS)
Shape = tuple[int, ...]


def canonical_name(parameter: str) -> str:
    """Name a parameter in the one way used for looking up.

    transformers 5 has no ``text_model.`` in `CLIPTextModel` (SDXL's first text encoder) and keeps
    it in `CLIPTextModelWithProjection` (the second); files written before have it in both. The
    canonical name has it nowhere.
    """
    return parameter.removeprefix("text_model.")


def is_layer(parameter: str, shape: Shape) -> bool:
    """Whether a parameter is the weight of a linear (2-D) or convolution (4-D) layer: what a LoRA can change."""
    return (
        parameter.endswith(".weight")
        and len(shape) in (2, 4)
        and not canonical_name(parameter).startswith("embeddings.")
    )


def parameter_shapes(folder: Path) -> dict[str, Shape]:
    """Read the names (as stored) and shapes of a network's parameters.

    `folder` is one network of a diffusers pipeline (``unet/``, ``text_encoder/``): a single
    safetensors file or shards with an index, with or without a variant such as ``fp16``; where
    there are several, the one with the shortest name (no variant) counts, for all have the same
    shapes. Raises `InvalidArgument` if there is none or it is malformed.
    """
    indices = sorted(folder.glob("*.safetensors.index*.json"), key=lambda path: len(path.name))
    if indices:
        shards = sorted(set(json.loads(indices[0].read_text())["weight_map"].values()))
        files = [folder / Path(shard).name for shard in shards]
    else:
        files = sorted(folder.glob("*.safetensors"), key=lambda path: len(path.name))[:1]
    if not files:
        raise InvalidArgument(f"Folder {folder.name!r} of the pipeline holds no .safetensors weights.")
    try:
        return {name: entry.shape for file in files for name, entry in read_header(file).tensors.items()}
    except MalformedFileError as error:
        raise InvalidArgument(f"A weights file in folder {folder.name!r} of the pipeline {error}.") from None


@dataclass(frozen=True, eq=False)
class Targets:
    """Shapes of the parameters, ``networks[network][canonical name]``, of one pipeline."""

    networks: Mapping[str, Mapping[str, Shape]]

    @classmethod
    def read(cls, pipeline: Path) -> "Targets":
        """Read them from the headers of a diffusers pipeline folder; networks that it lacks are left out."""
        return cls(
            {
                network: {canonical_name(name): shape for name, shape in parameter_shapes(folder).items()}
                for network in NETWORKS
                if (folder := pipeline / network).is_dir()
            }
        )

    @cached_property
    def layers(self) -> Mapping[str, Mapping[str, Shape]]:
        """Only the weights of linear (2-D) and convolution (4-D) layers: what a LoRA can change."""
        return {
            network: {name: shape for name, shape in parameters.items() if is_layer(name, shape)}
            for network, parameters in self.networks.items()
        }
