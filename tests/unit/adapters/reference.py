"""A tiny pipeline of SDXL's architecture, and what stock diffusers makes of LoRAs on it."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

Outputs = dict[str, torch.Tensor]


def build_pipeline() -> Any:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 2, 2),
        norm_num_groups=4,
        cross_attention_dim=16 + 24,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 12,
    )
    text = {
        "vocab_size": 50,
        "max_position_embeddings": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 12,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    return StableDiffusionXLPipeline(
        vae=None,
        text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=16, intermediate_size=32, **text)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=24, intermediate_size=48, **text)).eval(),
        tokenizer=None,
        tokenizer_2=None,
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(),
    )


@torch.no_grad()
def outputs(pipeline: Any) -> Outputs:
    """What each network makes of fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([[0, 5, 9, 30, 2, 1, 1, 1]])
    unet = pipeline.unet(
        torch.randn(2, 4, 8, 8, generator=generator),
        torch.tensor(500),
        torch.randn(2, 8, 40, generator=generator),
        added_cond_kwargs={
            "text_embeds": torch.randn(2, 12, generator=generator),
            "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2),
        },
    ).sample
    second = pipeline.text_encoder_2(ids)
    return {
        "unet": unet,
        "text_encoder": pipeline.text_encoder(ids).last_hidden_state,
        "text_encoder_2": second.last_hidden_state,
        "text_encoder_2 pooled": second.text_embeds,
    }


def diffusers_outputs(pipeline: Any, loras: Sequence[tuple[Path, float]]) -> Outputs:
    """The judge: stock diffusers with `load_lora_weights` and `set_adapters`."""
    pipeline = copy.deepcopy(pipeline)
    names = [f"lora{index}" for index in range(len(loras))]
    for name, (path, _) in zip(names, loras, strict=True):
        pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)
    pipeline.set_adapters(names, [scale for _, scale in loras])
    return outputs(pipeline)


class Engine:
    """The least that a Patcher needs: some parameters of a module."""

    def __init__(self, module: torch.nn.Module, prefixes: tuple[str, ...] = ("",)) -> None:
        self._parameters = {
            name: parameter for name, parameter in module.named_parameters() if name.startswith(prefixes)
        }
        self.changes = 0

    def parameters(self) -> Mapping[str, torch.Tensor]:
        return self._parameters

    def weights_changed(self, names) -> None:
        self.changes += 1


DECODER = ("up_blocks.", "conv_norm_out.", "conv_out.")


def build_engines(pipeline: Any) -> dict[str, list[Engine]]:
    """The UNet in two halves, as it is served, and the text encoders."""
    encoder = tuple({name for name, _ in pipeline.unet.named_parameters() if not name.startswith(DECODER)})
    return {
        "unet": [Engine(pipeline.unet, encoder), Engine(pipeline.unet, DECODER)],
        "text_encoder": [Engine(pipeline.text_encoder)],
        "text_encoder_2": [Engine(pipeline.text_encoder_2)],
    }


def state(pipeline: Any) -> dict[str, bytes]:
    """Every weight bit for bit."""
    return {
        f"{network}.{name}": parameter.detach().numpy().tobytes()
        for network in ("unet", "text_encoder", "text_encoder_2")
        for name, parameter in getattr(pipeline, network).named_parameters()
    }
