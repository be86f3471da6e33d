"""What a header alone decides: names that are understood, and everything that is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.adapters.kohya_names import name_modules
from swiftdiffusion.adapters.layout import LoraLayout, lay_out
from swiftdiffusion.adapters.safetensors_file import read_header
from swiftdiffusion.adapters.targets import Targets, canonical_name
from swiftdiffusion.errors import InvalidArgument

from .lora_files import EVERYTHING, SGM, Tensors, kohya, peft, write

TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA_TO_Q = "lora_unet_" + TO_Q.replace(".", "_")


def read_layout(tmp_path: Path, tensors: Tensors, targets: Targets, metadata: Any = None) -> LoraLayout:
    return lay_out("ink", read_header(write(tmp_path / "ink.safetensors", tensors, metadata)), targets)


def changes(layout: LoraLayout) -> dict[tuple[str, str], int]:
    return {(layer.network, layer.parameter): layer.rank for layer in layout.layers}


def expected_changes() -> dict[tuple[str, str], int]:
    return {
        (network, canonical_name(module) + ".weight"): rank
        for network, modules in EVERYTHING.items()
        for module, rank in modules.items()
    }


def test_every_naming_leads_to_the_same_weights(tmp_path: Path, pipeline: Any, targets: Targets) -> None:
    for tensors in (peft(pipeline), kohya(pipeline), kohya(pipeline, sgm=True)):
        layout = read_layout(tmp_path, tensors, targets)
        assert changes(layout) == expected_changes()
        assert layout.networks == {"unet", "text_encoder", "text_encoder_2"}


def test_two_kohya_namings_in_one_file_count_once(tmp_path: Path, pipeline: Any, targets: Targets) -> None:
    layout = read_layout(tmp_path, kohya(pipeline) | kohya(pipeline, sgm=True), targets)
    assert changes(layout) == expected_changes()
    sgm = {f"lora_unet_{name}.lora_down.weight" for name in SGM.values()}
    assert not sgm & {layer.keys["down"] for layer in layout.layers}


def test_every_layer_of_the_unet_has_both_kohya_names(targets: Targets) -> None:
    names: dict[str, int] = {}
    for network, parameter in name_modules(targets).values():
        if network == "unet":
            names[parameter] = names.get(parameter, 0) + 1
    assert names == dict.fromkeys(targets.layers["unet"], 2)


def factors(rows: int = 16, rank: int = 4, columns: int = 16, dtype: torch.dtype = torch.float32) -> Tensors:
    stem = f"unet.{TO_Q}"
    return {
        f"{stem}.lora_A.weight": torch.zeros(rank, columns, dtype=dtype),
        f"{stem}.lora_B.weight": torch.zeros(rows, rank, dtype=dtype),
    }


def without(tensors: Tensors, ending: str) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if not key.endswith(ending)}


def renamed(tensors: Tensors, old: str, new: str) -> Tensors:
    return {key.replace(old, new): tensor for key, tensor in tensors.items()}


CONV = "unet.mid_block.resnets.0.conv1"
REFUSALS: dict[str, tuple[Tensors, str]] = {
    "nothing": ({}, "holds no parameters"),
    "no LoRA": (
        {"unet.conv_in.weight": torch.zeros(8, 4, 3, 3)},
        r"'unet.conv_in.weight' of shape \[8, 4, 3, 3\]",
    ),
    "unknown module": (renamed(factors(), "attn1", "attn9"), "attn9.*no such linear or convolution layer"),
    "other base": (renamed(factors(), "unet.", "transformer."), "transformer.*no such"),
    "no network": (renamed(factors(), "unet.", ""), "no such linear"),
    "norm layer": (renamed(factors(), "attn1.to_q", "norm1"), "norm1.*no such linear"),
    "embedding": (
        {
            "text_encoder.embeddings.token_embedding.lora_A.weight": torch.zeros(4, 50),
            "text_encoder.embeddings.token_embedding.lora_B.weight": torch.zeros(16, 4),
        },
        "token_embedding.*no such linear",
    ),
    "wider base": (factors(columns=32), r"to_q.lora_A.weight' has shape \[4, 32\], expected \[4, 16\]"),
    "taller base": (factors(rows=32), r"to_q.lora_B.weight' has shape \[32, 4\], expected \[16, 4\]"),
    "ranks differ": (
        factors(rank=4) | {f"unet.{TO_Q}.lora_B.weight": torch.zeros(16, 8)},
        r"has shape \[16, 8\], expected \[16, 4\] to go with .*lora_A.weight' of rank 4",
    ),
    "rank 0": (factors(rank=0), r"shape \[0, 16\], expected \[1, 16\]"),
    "scalar factor": (
        factors() | {f"unet.{TO_Q}.lora_A.weight": torch.tensor(1.0)},
        r"shape \[\], expected \[1, 16\]",
    ),
    "convolution's factors on a linear layer": (
        {key: tensor[:, :, None, None].contiguous() for key, tensor in factors().items()},
        r"shape \[4, 16, 1, 1\], expected \[4, 16\]",
    ),
    "linear factors on a convolution": (
        {f"{CONV}.lora_A.weight": torch.zeros(4, 16), f"{CONV}.lora_B.weight": torch.zeros(16, 4)},
        r"shape \[4, 16\], expected \[4, 16, 3, 3\]",
    ),
    "up factor that is not 1x1": (
        {
            f"{CONV}.lora_A.weight": torch.zeros(4, 16, 3, 3),
            f"{CONV}.lora_B.weight": torch.zeros(16, 4, 3, 3),
        },
        r"shape \[16, 4, 3, 3\], expected \[16, 4, 1, 1\]",
    ),
    "no up": (without(factors(), "lora_B.weight"), "lora_A.weight' without the up factor"),
    "no down": (without(factors(), "lora_A.weight"), "lora_B.weight' without the down factor"),
    "alpha alone": ({f"{KOHYA_TO_Q}.alpha": torch.tensor(1.0)}, "alpha' without the down factor"),
    "whole numbers": (factors(dtype=torch.int32), "as torch.int32, expected float16"),
    "bias": (
        factors() | {f"unet.{TO_Q}.lora_B.bias": torch.ones(16)},
        "lora_B.bias.*no part of a LoRA that is understood",
    ),
    "OFT": ({f"{KOHYA_TO_Q}.oft_blocks": torch.ones(4, 4, 4)}, "oft_blocks.*names end in .lora_down.weight"),
    "half a LoHa": ({f"{KOHYA_TO_Q}.hada_w1_a": torch.ones(16, 4)}, "hada_w1_a' without the hada_w1_b factor"),
    "wider LoHa": (
        {f"{KOHYA_TO_Q}.hada_w{half}_{side}": torch.ones(16, 4) for half in (1, 2) for side in "ab"},
        r"hada_w1_a' has shape \[16, 4\], expected \[16, 16\]",
    ),
    "half a LoKr": ({f"{KOHYA_TO_Q}.lokr_w1": torch.ones(4, 4)}, "lokr_w1' without the lokr_w2_a factor"),
    "LoKr that does not divide": (
        {f"{KOHYA_TO_Q}.lokr_w1": torch.ones(5, 4), f"{KOHYA_TO_Q}.lokr_w2": torch.ones(4, 4)},
        r"lokr_w1' has shape \[5, 4\], expected \[1, 4\]",
    ),
    "LoKr in too many parts": (
        {f"{KOHYA_TO_Q}.lokr_{part}": torch.ones(4, 4) for part in ("w1", "w2", "w2_a")},
        "lokr_w2_a', for which its other parts leave no room",
    ),
    "LoRA and LoHa": (
        renamed(factors(), f"unet.{TO_Q}", f"unet.{TO_Q}") | {f"unet.{TO_Q}.hada_w1_a": torch.ones(16, 4)},
        "hada_w1_a' and .*lora_A.weight' for one layer, which do not go together",
    ),
    "magnitude of another length": (
        factors() | {f"unet.{TO_Q}.lora_magnitude_vector": torch.ones(8)},
        r"lora_magnitude_vector' has shape \[8\], expected \[16\]",
    ),
    "DoRA of a LoKr": (
        {f"{KOHYA_TO_Q}.{part}": torch.ones(4, 4) for part in ("lokr_w1", "lokr_w2")}
        | {f"{KOHYA_TO_Q}.dora_scale": torch.ones(16)},
        "dora_scale', DoRA's, beside LoKr",
    ),
    "CP decomposition": ({f"{KOHYA_TO_Q}.lora_mid.weight": torch.ones(4, 4, 3, 3)}, "lora_mid.*no part of"),
    "kohya, unknown block": (
        {"lora_unet_input_blocks_99_1_proj_in.lora_down.weight": torch.zeros(4, 16)},
        "input_blocks_99_1.*no such",
    ),
    "kohya among PEFT": (
        factors() | {f"{KOHYA_TO_Q}.alpha": torch.tensor(1.0)},
        f"{KOHYA_TO_Q}.alpha.*no such",
    ),
    "twice": (renamed(factors(), "attn1", "attn1.processor") | factors(), "twice"),
    "one factor in two spellings": (
        factors() | {f"unet.{TO_Q}.lora.down.weight": torch.zeros(4, 16)},
        "lora.down.weight' and .*lora_A.weight', which are the same factor",
    ),
    "alpha of many numbers": (
        factors() | {f"unet.{TO_Q}.alpha": torch.ones(4)},
        r"alpha' of shape \[4\], expected one number",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses_what_does_not_fit(case: str, tmp_path: Path, targets: Targets) -> None:
    tensors, message = REFUSALS[case]
    with pytest.raises(InvalidArgument, match=message) as refusal:
        read_layout(tmp_path, tensors, targets)
    assert str(refusal.value).startswith("LoRA 'ink' ")
    assert str(refusal.value).endswith(".")


def test_names_the_first_of_several_wrong_parameters(tmp_path: Path, pipeline: Any, targets: Targets) -> None:
    tensors = peft(pipeline)
    wrong = sorted(key for key in tensors if key.endswith("lora_A.weight"))[5:]
    tensors |= {key: torch.zeros(4, 1) for key in wrong}
    with pytest.raises(InvalidArgument, match=wrong[0]):
        read_layout(tmp_path, tensors, targets)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([], "not a JSON object"),
        ({"unet.lora_alpha": "four"}, "unet.lora_alpha in its metadata that is not a number"),
        ({"unet.lora_alpha": float("nan")}, "not a number"),
        ({"unet.lora_alpha": None}, "not a number"),
        ({"unet.lora_alpha": 10**400}, "not a number"),
        ({"unet.r": 8}, "has rank 8, its shapes 4"),
        ({"unet.r": 4, "unet.rank_pattern": {"to_q": 2}}, "has rank 2, its shapes 4"),
        ({"unet.alpha_pattern": {"(a+)+$": 1}}, "not a module's name"),
    ],
)
def test_refuses_metadata_that_is_wrong(metadata: Any, message: str, tmp_path: Path, targets: Targets) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read_layout(tmp_path, factors(), targets, metadata)


@pytest.mark.parametrize(
    ("patterns", "strength"),
    [
        ({}, 2.0),
        ({"to_q": 1}, 0.25),
        ({"attn1.to_q": 1, "to_q": 2}, 0.25),
        ({"to_k": 1, "to_q": 2, "attn1.to_q": 3}, 0.5),
        ({"^to_q": 1, "o_q": 1, "attn1": 1}, 2.0),
        ({f"^{TO_Q}": 1}, 0.25),
        ({TO_Q.replace(".", "\\."): 1}, 0.25),
    ],
)
def test_alpha_patterns(patterns: dict[str, int], strength: float, tmp_path: Path, targets: Targets) -> None:
    metadata = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": patterns}
    (layer,) = read_layout(tmp_path, factors(), targets, metadata).layers
    assert layer.strength == strength
