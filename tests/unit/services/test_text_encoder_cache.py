"""What the text encoders remember, without a server."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shapes.checkpoint import lora_file, pipeline_folder
from swiftdiffusion.configuration import Location
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.request import LoraUse
from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService

NIGHT = [LoraUse("night", 1.0)]


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return Path(shutil.copy(lora_file("night"), tmp_path))


@pytest.fixture
def service(night: Path) -> Iterator[TextEncoderService]:
    """One that keeps no LoRA in memory."""
    configuration = TextEncoderConfiguration(
        pipeline=pipeline_folder(), adapters=Location(night.parent), lora_cache_mb=0
    )
    service = TextEncoderService(configuration, Placement(torch.device("cpu"), torch.float32))
    yield service
    service.close()


def test_a_remembered_prompt_needs_no_lora(service: TextEncoderService, night: Path) -> None:
    hidden, pooled, cached = service.encode(["a red circle"], NIGHT)
    assert cached == [False]
    spoil(night)
    again = service.encode(["a red circle"], NIGHT)
    assert again[2] == [True]
    assert torch.equal(again[0], hidden) and torch.equal(again[1], pooled)
    with pytest.raises(InvalidArgument, match="that is infinite or not a number"):
        service.encode(["a red circle", "a blue square"], NIGHT)


def test_a_prompt_is_remembered_for_one_state_of_a_file_and_one_scale(service: TextEncoderService, night: Path) -> None:
    hidden, _, _ = service.encode(["a red circle"], NIGHT)
    weaker, _, cached = service.encode(["a red circle"], [LoraUse("night", 0.5)])
    assert cached == [False] and not torch.equal(weaker, hidden)
    save_file({name: 2 * tensor for name, tensor in load_file(night).items()}, night)
    changed, _, cached = service.encode(["a red circle"], NIGHT)
    assert cached == [False] and not torch.equal(changed, hidden)


def spoil(file: Path) -> None:
    """Make all values NaN in a file that counts as unchanged."""
    before = file.stat()
    with file.open("r+b") as content:
        start = 8 + int.from_bytes(content.read(8), "little")
        content.seek(start)
        content.write(b"\xff" * (before.st_size - start))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
