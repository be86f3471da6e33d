import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from swiftdiffusion.adapters.targets import NETWORKS, Targets, canonical_name, parameter_shapes
from swiftdiffusion.errors import InvalidArgument


def test_names_and_shapes_are_those_of_the_live_networks(pipeline: Any, targets: Targets) -> None:
    for network in NETWORKS:
        live = {canonical_name(name): tuple(p.shape) for name, p in getattr(pipeline, network).named_parameters()}
        assert targets.networks[network] == live


def test_layers_are_the_linear_and_convolution_weights(pipeline: Any, targets: Targets) -> None:
    for network in NETWORKS:
        modules = getattr(pipeline, network).named_modules()
        expected = {
            canonical_name(name) + ".weight"
            for name, module in modules
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        }
        assert targets.layers[network].keys() == expected


def test_text_model_prefix_of_older_files_is_no_difference(tmp_path: Path, pipeline: Any, targets: Targets) -> None:
    weights = pipeline.text_encoder.state_dict()
    (tmp_path / "text_encoder").mkdir()
    old = {f"text_model.{name}": weight for name, weight in weights.items()}
    save_file(old, tmp_path / "text_encoder" / "model.safetensors")
    assert Targets.read(tmp_path).networks == {"text_encoder": targets.networks["text_encoder"]}


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("shard_size", ["10GB", "50KB"])
def test_variants_and_shards(variant: str | None, shard_size: str, tmp_path: Path, pipeline: Any) -> None:
    pipeline.unet.save_pretrained(tmp_path, variant=variant, max_shard_size=shard_size)
    sharded = len(list(tmp_path.glob("*.safetensors"))) > 1
    assert sharded == (shard_size == "50KB")
    assert parameter_shapes(tmp_path) == {n: tuple(p.shape) for n, p in pipeline.unet.named_parameters()}


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    folder.mkdir()
    save_file({"inside": torch.zeros(1)}, folder / "part.safetensors")
    save_file({"outside": torch.zeros(1)}, tmp_path / "part.safetensors")
    index = {"weight_map": {"inside": "../part.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert parameter_shapes(folder) == {"inside": (1,)}


def test_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no \.safetensors"):
        parameter_shapes(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InvalidArgument, match="not a safetensors file"):
        parameter_shapes(tmp_path)
