"""Our patched weights against stock diffusers' `load_lora_weights` and `set_adapters`."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.adapters.patching import Patcher

from .conftest import MakeLoader
from .lora_files import EVERYTHING, UNET, Tensors, kohya, peft, write
from .reference import Outputs, build_engines, diffusers_outputs, outputs


def our_outputs(pipeline: Any, make_loader: MakeLoader, loras: list[tuple[Path, float]]) -> Outputs:
    pipeline = copy.deepcopy(pipeline)
    pending = make_loader().begin([path.stem for path, _ in loras], [scale for _, scale in loras])
    Patcher(build_engines(pipeline)).apply(pending.wait(10))
    return outputs(pipeline)


def assert_same(ours: Outputs, reference: Outputs, base: Outputs) -> None:
    for name, expected in reference.items():
        assert (expected - base[name]).abs().max() > 1e-2, f"the LoRA does nothing to {name}"
        difference = (ours[name] - expected).abs().max().item()
        assert difference <= 1e-5 * max(1.0, expected.abs().max().item()), f"{name} differs by {difference}"


def old_diffusers(pipeline: Any) -> Tensors:
    """The names of diffusers 0.12 to 0.20: to_q_lora in processors, lora_linear_layer in text encoders."""
    old = {"q_proj": "to_q_lora", "k_proj": "to_k_lora", "v_proj": "to_v_lora", "out_proj": "to_out_lora"}
    renamed = {}
    for key, tensor in peft(pipeline).items():
        key = key.replace("lora_A", "down").replace("lora_B", "up")
        module, part, _ = key.rsplit(".", 2)
        stem, last = module.removesuffix(".0").rsplit(".", 1)
        if ".attn" in key:
            module = f"{stem}.processor.{last}_lora"
        elif ".self_attn." in key:
            module = f"{stem}.{old[last]}"
        else:
            module += ".lora_linear_layer" if ".mlp." in key else ".lora"
        renamed[f"{module}.{part}.weight"] = tensor
    return renamed


def diffusers_text_encoder(pipeline: Any) -> Tensors:
    """The names that diffusers itself saves: lora_linear_layer in text encoders, with text_model."""
    renamed = {}
    for key, tensor in peft(pipeline).items():
        if key.startswith("text_encoder"):
            key = key.replace("lora_A", "lora_linear_layer.down").replace("lora_B", "lora_linear_layer.up")
            key = key.replace("text_encoder.encoder", "text_encoder.text_model.encoder")
        renamed[key] = tensor
    return renamed


def kohya_in_blocks(pipeline: Any, **options: Any) -> Tensors:
    """Without layers outside blocks: in this naming diffusers 0.42 loses add_embedding."""
    unet = {module: rank for module, rank in UNET.items() if "blocks" in module or "mid_block" in module}
    return kohya(pipeline, EVERYTHING | {"unet": unet}, **options)


def both_namings(pipeline: Any) -> Tensors:
    return kohya_in_blocks(pipeline, seed=1) | kohya_in_blocks(pipeline, sgm=True, seed=2)


FILES = {
    "peft": peft,
    "peft in fp16": lambda pipeline: {key: tensor.half() for key, tensor in peft(pipeline).items()},
    "old diffusers": old_diffusers,
    "diffusers text encoder": diffusers_text_encoder,
    "kohya": kohya_in_blocks,
    "kohya without alpha": lambda pipeline: kohya_in_blocks(pipeline, alpha=None),
    "kohya sgm": lambda pipeline: kohya(pipeline, sgm=True),
    "kohya te": lambda pipeline: {
        key.replace("lora_te1_", "lora_te_"): tensor for key, tensor in kohya(pipeline, sgm=True).items()
    },
    "kohya in both namings": both_namings,
    "alpha of 1 element": lambda pipeline: {
        key: tensor.reshape(1) if key.endswith("alpha") else tensor for key, tensor in kohya(pipeline, sgm=True).items()
    },
}


@pytest.mark.parametrize("name", FILES)
def test_one_file(name: str, pipeline: Any, make_loader: MakeLoader, tmp_path: Path) -> None:
    path = write(tmp_path / "lora.safetensors", FILES[name](pipeline))
    loras = [(path, 0.8)]
    assert_same(our_outputs(pipeline, make_loader, loras), diffusers_outputs(pipeline, loras), outputs(pipeline))


@pytest.mark.parametrize("scales", [(1.0, 0.5), (0.7, -1.3), (0.0, 1.0), (2.0, 1.0)])
def test_two_files_with_scales(
    scales: tuple[float, float], pipeline: Any, make_loader: MakeLoader, tmp_path: Path
) -> None:
    first = write(tmp_path / "first.safetensors", peft(pipeline, seed=1))
    second = write(tmp_path / "second.safetensors", kohya(pipeline, alpha=3.0, sgm=True, seed=2))
    loras = list(zip((first, second), scales, strict=True))
    assert_same(our_outputs(pipeline, make_loader, loras), diffusers_outputs(pipeline, loras), outputs(pipeline))


def test_alpha_of_each_layer_counts(pipeline: Any, make_loader: MakeLoader, tmp_path: Path) -> None:
    # diffusers 0.42 loses alphas of attention layers where they differ, so it gets the same LoRA
    # with alpha / rank multiplied into the up factors.
    tensors = kohya(pipeline, sgm=True)
    folded: Tensors = {}
    for number, key in enumerate(sorted(key for key in tensors if key.endswith(".alpha"))):
        tensors[key] = torch.tensor(0.5 + number % 5)
        stem = key.removesuffix(".alpha")
        down, up = tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"]
        folded |= {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up * (tensors[key] / len(down)),
        }
    ours = our_outputs(pipeline, make_loader, [(write(tmp_path / "lora.safetensors", tensors), 0.8)])
    reference = diffusers_outputs(pipeline, [(write(tmp_path / "folded.safetensors", folded), 0.8)])
    assert_same(ours, reference, outputs(pipeline))


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_metadata_gives_ranks_and_alphas(
    rank_stabilised: bool, pipeline: Any, make_loader: MakeLoader, tmp_path: Path
) -> None:
    metadata: dict[str, Any] = {}
    for network, modules in EVERYTHING.items():
        metadata |= {
            f"{network}.r": 4,
            f"{network}.lora_alpha": 6,
            f"{network}.rank_pattern": {f"^{module}": rank for module, rank in modules.items() if rank != 4},
            f"{network}.alpha_pattern": {"to_k": 1, next(reversed(modules)): 3},
            f"{network}.target_modules": list(modules),
            f"{network}.use_rslora": rank_stabilised,
        }
    path = write(tmp_path / "lora.safetensors", peft(pipeline), metadata)
    loras = [(path, 0.8)]
    assert_same(our_outputs(pipeline, make_loader, loras), diffusers_outputs(pipeline, loras), outputs(pipeline))
