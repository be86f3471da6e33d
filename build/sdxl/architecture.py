"""SDXL base 1.0's networks and noise schedule, as its published configuration files have them, without weights.

Sources: the paper (arXiv 2307.01952, table 1) and the `config.json` files of stabilityai/stable-diffusion-xl-base-1.0
and diffusers/controlnet-canny-sdxl-1.0. What those files leave to a default is left to it here.

Every function here gives a module on the meta device: it has names, shapes and fp32 as its dtype, but no memory.
"""

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, ControlNetModel, EulerDiscreteScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

META = torch.device("meta")
TOKENS = 77
PIXELS_PER_LATENT = 8

# what the UNet's encoder half and a ControlNet have in common
_ENCODER = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),  # a misnomer kept for old checkpoints: the number of heads
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_TEXT = {
    "vocab_size": 49408,
    "max_position_embeddings": TOKENS,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}


def describe_unet() -> UNet2DConditionModel:
    """The UNet: 2,567,463,684 parameters."""
    with META:
        return UNet2DConditionModel(
            sample_size=128, up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), **_ENCODER
        )


def describe_controlnet() -> ControlNetModel:
    """A ControlNet for it, for reference images of eight times the latents' size: 1,251,014,160 parameters."""
    with META:
        return ControlNetModel(conditioning_embedding_out_channels=(16, 32, 96, 256), **_ENCODER)


def describe_vae() -> AutoencoderKL:
    """The VAE: 83,653,863 parameters, of which 49,490,179 in the decoder."""
    with META:
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=1024,
            scaling_factor=0.13025,
            force_upcast=True,
        )


def describe_text_encoder() -> CLIPTextModel:
    """CLIP ViT-L's text model, ids [batch, 77] to hidden states 768 wide: 123,060,480 parameters."""
    config = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        hidden_act="quick_gelu",
        projection_dim=768,
        **_TEXT,
    )
    with META:
        return CLIPTextModel(config)


def describe_text_encoder_2() -> CLIPTextModelWithProjection:
    """OpenCLIP ViT-bigG's text model, the same to 1,280 wide and a projection: 694,659,840 parameters."""
    config = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        hidden_act="gelu",
        projection_dim=1280,
        **_TEXT,
    )
    with META:
        return CLIPTextModelWithProjection(config)


def build_scheduler() -> EulerDiscreteScheduler:
    """The noise schedule, as the sampler that the pipeline uses by default."""
    return EulerDiscreteScheduler.from_config(
        {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
            "timestep_spacing": "leading",
            "steps_offset": 1,
            "clip_sample": False,  # the last three are for other schedulers that are made from this configuration
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
        }
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "text_encoder": describe_text_encoder,
    "text_encoder_2": describe_text_encoder_2,
    "unet": describe_unet,
    "vae": describe_vae,
}
"""The networks of a pipeline by their names in it."""
