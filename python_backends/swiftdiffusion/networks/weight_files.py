"""How many weights a network's files hold."""

from __future__ import annotations

import math
from pathlib import Path

from swiftdiffusion.adapters.safetensors_file import MalformedFileError, read_header
from swiftdiffusion.errors import InvalidArgument

STEMS = ("diffusion_pytorch_model", "model")  # of diffusers' and transformers' files


def count_weights(folder: Path) -> int:
    """The elements of all tensors in a network's diffusers or transformers folder, whole or in shards.

    Raises:
        InvalidArgument: there are none, or a file is broken.
    """
    for stem in STEMS:
        # the shards before the whole, as the libraries choose; other variants (`.fp16.`) are not what they load
        files = sorted(folder.glob(f"{stem}-?????-of-?????.safetensors")) or [folder / f"{stem}.safetensors"]
        if all(file.is_file() for file in files):
            return sum(_count_elements(file) for file in files)
    raise InvalidArgument(f"{folder} has no weights; allowed: {' or '.join(f'{stem}.safetensors' for stem in STEMS)}")


def _count_elements(file: Path) -> int:
    try:
        return sum(math.prod(tensor.shape) for tensor in read_header(file).tensors.values())
    except MalformedFileError as error:
        raise InvalidArgument(f"{file} {error}") from None
