"""LoRA files with random factors, in every naming that is understood."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

# Module paths as in the live networks of transformers 5 and diffusers, and the rank of each.
UNET = {
    "conv_in": 2,
    "time_embedding.linear_1": 3,
    "time_embedding.linear_2": 3,
    "add_embedding.linear_1": 2,
    "add_embedding.linear_2": 2,
    "down_blocks.0.resnets.1.conv1": 4,
    "down_blocks.0.resnets.1.conv2": 4,
    "down_blocks.0.resnets.1.time_emb_proj": 4,
    "down_blocks.0.downsamplers.0.conv": 3,
    "down_blocks.1.resnets.0.conv_shortcut": 2,
    "down_blocks.1.attentions.0.proj_in": 4,
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": 4,
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k": 2,
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v": 4,
    "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_out.0": 4,
    "down_blocks.2.attentions.1.transformer_blocks.1.ff.net.0.proj": 4,
    "down_blocks.2.attentions.1.transformer_blocks.1.ff.net.2": 4,
    "down_blocks.2.attentions.1.proj_out": 4,
    "mid_block.resnets.0.conv1": 4,
    "mid_block.attentions.0.transformer_blocks.1.attn1.to_out.0": 5,
    "mid_block.resnets.1.time_emb_proj": 4,
    "up_blocks.0.resnets.2.conv2": 4,
    "up_blocks.0.attentions.2.transformer_blocks.0.attn1.to_v": 4,
    "up_blocks.0.upsamplers.0.conv": 4,
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k": 4,
    "up_blocks.1.upsamplers.0.conv": 2,
    "up_blocks.2.resnets.0.conv_shortcut": 4,
    "up_blocks.2.resnets.1.conv1": 4,
    "conv_out": 2,
}
TEXT_ENCODER = {
    "encoder.layers.0.self_attn.q_proj": 4,
    "encoder.layers.0.self_attn.out_proj": 4,
    "encoder.layers.1.mlp.fc1": 4,
    "encoder.layers.1.mlp.fc2": 4,
}
TEXT_ENCODER_2 = {
    "text_model.encoder.layers.0.self_attn.k_proj": 4,
    "text_model.encoder.layers.1.self_attn.v_proj": 4,
    "text_model.encoder.layers.1.self_attn.out_proj": 4,
    "text_model.encoder.layers.1.mlp.fc2": 4,
}
EVERYTHING = {"unet": UNET, "text_encoder": TEXT_ENCODER, "text_encoder_2": TEXT_ENCODER_2}

# What Stability's original UNet calls the modules above: written by hand, so that the mapping under
# test is not the judge of itself.
SGM = {
    "conv_in": "input_blocks_0_0",
    "time_embedding.linear_1": "time_embed_0",
    "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0",
    "add_embedding.linear_2": "label_emb_0_2",
    "down_blocks.0.resnets.1.conv1": "input_blocks_2_0_in_layers_2",
    "down_blocks.0.resnets.1.conv2": "input_blocks_2_0_out_layers_3",
    "down_blocks.0.resnets.1.time_emb_proj": "input_blocks_2_0_emb_layers_1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks_4_0_skip_connection",
    "down_blocks.1.attentions.0.proj_in": "input_blocks_4_1_proj_in",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": ("input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k": ("input_blocks_4_1_transformer_blocks_0_attn1_to_k"),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v": ("input_blocks_4_1_transformer_blocks_0_attn2_to_v"),
    "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_out.0": (
        "input_blocks_5_1_transformer_blocks_0_attn2_to_out_0"
    ),
    "down_blocks.2.attentions.1.transformer_blocks.1.ff.net.0.proj": (
        "input_blocks_8_1_transformer_blocks_1_ff_net_0_proj"
    ),
    "down_blocks.2.attentions.1.transformer_blocks.1.ff.net.2": ("input_blocks_8_1_transformer_blocks_1_ff_net_2"),
    "down_blocks.2.attentions.1.proj_out": "input_blocks_8_1_proj_out",
    "mid_block.resnets.0.conv1": "middle_block_0_in_layers_2",
    "mid_block.attentions.0.transformer_blocks.1.attn1.to_out.0": (
        "middle_block_1_transformer_blocks_1_attn1_to_out_0"
    ),
    "mid_block.resnets.1.time_emb_proj": "middle_block_2_emb_layers_1",
    "up_blocks.0.resnets.2.conv2": "output_blocks_2_0_out_layers_3",
    "up_blocks.0.attentions.2.transformer_blocks.0.attn1.to_v": ("output_blocks_2_1_transformer_blocks_0_attn1_to_v"),
    "up_blocks.0.upsamplers.0.conv": "output_blocks_2_2_conv",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k": ("output_blocks_3_1_transformer_blocks_0_attn2_to_k"),
    "up_blocks.1.upsamplers.0.conv": "output_blocks_5_2_conv",
    "up_blocks.2.resnets.0.conv_shortcut": "output_blocks_6_0_skip_connection",
    "up_blocks.2.resnets.1.conv1": "output_blocks_7_0_in_layers_2",
    "conv_out": "out_2",
}

Tensors = dict[str, torch.Tensor]

# Tensors of every form that a file can hold; no LoRA's.
EVERY_FORM: Tensors = {
    "half": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "one byte": torch.tensor([7], dtype=torch.uint8),  # what follows is not aligned in memory terms
    "bfloat": torch.arange(5, dtype=torch.bfloat16),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "whole": torch.arange(3),
}
Modules = Mapping[str, Mapping[str, int]]


def draw_factors(pipeline: Any, modules: Modules, seed: int = 0) -> dict[tuple[str, str], tuple[torch.Tensor, ...]]:
    """Random (down, up) for each (network, module)."""
    generator = torch.Generator().manual_seed(seed)
    factors: dict[tuple[str, str], tuple[torch.Tensor, ...]] = {}
    for network, ranks in modules.items():
        for module, rank in ranks.items():
            shape = getattr(pipeline, network).get_submodule(module).weight.shape
            down = torch.randn(rank, *shape[1:], generator=generator) * 0.2
            up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator) * 0.2
            factors[network, module] = (down, up)
    return factors


def peft(pipeline: Any, modules: Modules = EVERYTHING, seed: int = 0) -> Tensors:
    tensors = {}
    for (network, module), (down, up) in draw_factors(pipeline, modules, seed).items():
        tensors[f"{network}.{module}.lora_A.weight"] = down
        tensors[f"{network}.{module}.lora_B.weight"] = up
    return tensors


def kohya(
    pipeline: Any, modules: Modules = EVERYTHING, alpha: float | None = 2.0, sgm: bool = False, seed: int = 0
) -> Tensors:
    prefixes = {
        "unet": "lora_unet_",
        "text_encoder": "lora_te1_text_model_",
        "text_encoder_2": "lora_te2_",
    }
    tensors = {}
    for (network, module), (down, up) in draw_factors(pipeline, modules, seed).items():
        name = SGM[module] if sgm and network == "unet" else module.replace(".", "_")
        stem = prefixes[network] + name
        tensors[f"{stem}.lora_down.weight"] = down
        tensors[f"{stem}.lora_up.weight"] = up
        if alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    return tensors


def write(path: Path, tensors: Tensors, adapter_metadata: dict[str, Any] | None = None) -> Path:
    metadata = {"format": "pt"}
    if adapter_metadata is not None:
        metadata["lora_adapter_metadata"] = json.dumps(adapter_metadata)
    save_file(tensors, path, metadata)
    return path
