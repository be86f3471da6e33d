"""The networks of the `shapes` checkpoint: SDXL's own classes and configuration, only smaller.

What differs from SDXL base 1.0 besides widths: the VAE has one level fewer, so that a latent covers 4 by 4 pixels;
each level has one ResNet block fewer and one transformer block; prompts have at most 48 tokens; the noise schedule
ends at more noise (`beta_end`), so that the background's colour is not already in the first latents; and the UNet
predicts v, which at that noise is better conditioned than epsilon (Salimans and Ho, "Progressive Distillation",
2022, section 4).
"""

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from shapes.tokenizer import MAX_LENGTH, build_tokenizer

RESOLUTION = 128
LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 4
CONTROLNETS = ("edges", "layout")

_TEXT_WIDTHS = (64, 128)


def build_vae() -> AutoencoderKL:
    """An untrained VAE; images [n, 3, h, w] in [-1, 1] to latents [n, 4, h / 4, w / 4]."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 48),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=RESOLUTION,
        scaling_factor=1.0,
        force_upcast=False,
    )


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet; like SDXL's, only the two lower levels attend to the prompt."""
    pooled_width = _TEXT_WIDTHS[1]
    time_id_width = 32
    return UNet2DConditionModel(
        sample_size=RESOLUTION // PIXELS_PER_LATENT,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 64, 96),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 1),
        norm_num_groups=16,
        attention_head_dim=(2, 2, 3),  # SDXL's misnomer: the number of heads
        cross_attention_dim=sum(_TEXT_WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=time_id_width,
        projection_class_embeddings_input_dim=6 * time_id_width + pooled_width,
    )


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet that starts as a copy of `unet`'s encoder half, with zero output convolutions."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 48))


def build_text_encoders(vocabulary: int) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Two untrained text encoders for token ids below `vocabulary`, whose highest id ends a text."""

    def config(width: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=3,
            num_attention_heads=width // 32,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=width,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )

    return CLIPTextModel(config(_TEXT_WIDTHS[0])), CLIPTextModelWithProjection(config(_TEXT_WIDTHS[1]))


def build_scheduler() -> EulerDiscreteScheduler:
    """The noise schedule, as the sampler that the pipeline uses by default."""
    return EulerDiscreteScheduler.from_config(
        {
            "beta_start": 0.00085,
            "beta_end": 0.02,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "clip_sample": False,  # for the schedulers that would clip latents; SDXL's own file has it too
        }
    )


def build_pipeline(seed: int = 0) -> StableDiffusionXLPipeline:
    """The whole untrained pipeline, on the CPU in fp32; the same weights for the same seed."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    text_encoder, text_encoder_2 = build_text_encoders(len(tokenizer))
    return StableDiffusionXLPipeline(
        vae=build_vae(),
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=build_tokenizer(),
        unet=build_unet(),
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
