"""The list of LoRAs, without a server."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.profile import PROFILE_SUFFIX, AdapterProfile, read_profile
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.configuration import Location
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.services.adapters import AdapterListConfiguration, AdapterListService

SHAPES = Path(__file__).parents[3] / "build" / "shapes" / "weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("night", "hatching"):
        (tmp_path / f"{name}.safetensors").symlink_to(SHAPES / "loras" / f"{name}.safetensors")
    return tmp_path


@pytest.fixture
def ask(folder: Path) -> Any:
    configuration = AdapterListConfiguration(pipeline=SHAPES / "pipeline", adapters=Location(folder), described_max=3)
    service = AdapterListService(configuration)

    def ask(**inputs: Any) -> tuple[list[str], dict[str, Any]]:
        arrays = {
            name: np.array([v.encode() for v in value], object) if name == "names" else np.array([value], np.int32)
            for name, value in inputs.items()
        }
        answer = service.answer(arrays)
        described = [json.loads(text) for text in answer["adapters"]]
        return [name.decode() for name in answer["names"]], {one["name"]: one for one in described}

    return ask


def test_what_there_is_and_what_it_is(ask: Any, folder: Path) -> None:
    names, described = ask()
    assert names == ["hatching", "night"]
    night = described["night"]
    assert night["bytes"] == (folder / "night.safetensors").stat().st_size
    assert night["ranks"] == [8]
    assert night["algorithms"] == ["LoRA"]
    assert night["targets"].keys() == {"unet", "text_encoder", "text_encoder_2"}
    assert night["base"] == "shapes"
    assert night["description"] == "night colours"
    assert night["trigger_words"] == "none: it acts on every prompt"
    assert (night["bound"], night["dora"]) == (None, False)
    assert described["hatching"]["targets"].keys() == {"unet"}


def test_some_of_many(ask: Any, folder: Path) -> None:
    for number in range(5):
        (folder / f"more{number}.safetensors").symlink_to(SHAPES / "loras" / "night.safetensors")
    names, described = ask()
    assert (len(names), len(described)) == (7, 3)
    assert list(ask(start=5)[1]) == ["more4", "night"]
    assert list(ask(count=0)[1]) == []
    assert list(ask(names=["night"])[1]) == ["night"]
    with pytest.raises(InvalidArgument, match="count is 4; allowed: 0 to 3"):
        ask(count=4)


def test_what_cannot_be_used_says_why(ask: Any, folder: Path) -> None:
    (folder / "cut.safetensors").write_bytes((SHAPES / "loras" / "night.safetensors").read_bytes()[:5000])
    save_file({"unet.nothing.lora_A.weight": torch.ones(4, 4)}, folder / "other.safetensors")
    described = ask(names=["cut", "other", "../night"])[1]
    assert "cut short" in described["cut"]["error"]
    assert "no such linear or convolution layer" in described["other"]["error"]
    assert "not a name" in described["../night"]["error"]


def test_trigger_words_are_taken_from_tags(ask: Any, folder: Path) -> None:
    tags = {"10_ink": {"inkwash": 30, "cat": 2}, "5_more": {"inkwash": 12, "dog ": 3}}
    for name, text in (("tagged", json.dumps(tags)), ("odd", '{"a": [1]}')):
        tensors = load_file(SHAPES / "loras" / "night.safetensors")
        save_file(tensors, folder / f"{name}.safetensors", {"ss_tag_frequency": text})
    described = ask(names=["tagged", "odd"])[1]
    assert described["tagged"]["trigger_words"] == "inkwash, dog, cat"
    assert described["odd"]["trigger_words"] is None


def test_a_profile_is_kept_beside_and_scaled(ask: Any, folder: Path) -> None:
    profile = AdapterProfile(bound=12, steps=30, threshold=0.9, similarities={"0": 1.0, "12": 0.91})
    (folder / f"night{PROFILE_SUFFIX}").write_text(profile.to_json())
    store = FolderStore(folder)
    assert read_profile(store, store.find("night")) == profile
    assert read_profile(store, store.find("hatching")) is None
    assert [profile.scale_to(steps) for steps in (1, 10, 30, 50)] == [0, 4, 12, 20]
    assert ask(names=["night"])[1]["night"]["bound"] == 12
    loader = LoraLoader(store, Targets.read(SHAPES / "pipeline"))
    assert loader.inspect("night").profile == profile
    loader.close()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"bound": 40, "steps": 30, "threshold": 1, "similarities": {}}']
)
def test_a_profile_that_is_none_is_passed_over(text: str, folder: Path) -> None:
    (folder / f"night{PROFILE_SUFFIX}").write_text(text)
    store = FolderStore(folder)
    assert read_profile(store, store.find("night")) is None


def test_odd_metadata_hide_no_other_file(ask: Any, folder: Path) -> None:
    """Half an emoji, as tools that cut UTF-16 write it; a count that no integer is."""
    metadata = {"modelspec.description": "half \ud83d", "ss_tag_frequency": '{"1_a": {"b": Infinity}}'}
    header = json.dumps({"__metadata__": metadata, **_read_header(folder / "night.safetensors")}).encode()
    tensors = (folder / "night.safetensors").read_bytes()
    length = int.from_bytes(tensors[:8], "little")
    (folder / "odd.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + tensors[8 + length :])
    names, described = ask()
    assert names == ["hatching", "night", "odd"]
    assert described["odd"]["description"] == "half ?"
    assert described["odd"]["trigger_words"] is None


def _read_header(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}
