"""What is exported: every network of a checkpoint, with the shapes that its inputs can have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.networks.network import Network
from swiftdiffusion.networks.text_encoder import load_text_encoders
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.networks.vae_decoder import load_vae_decoder
from swiftdiffusion.networks.vae_encoder import load_vae_encoder
from swiftdiffusion_build.export.specification import BATCH, Inputs, TensorSpecification, picture_axes

DTYPE = torch.float16


@dataclass(frozen=True)
class Subject:
    """One network, loaded: what goes in, what comes out, and the number type of its weights."""

    network: Network
    inputs: Inputs
    outputs: tuple[str, ...]
    dtype: torch.dtype = DTYPE


@dataclass(frozen=True)
class Source:
    """Where a network comes from."""

    folder: Path  # the diffusers folder with its configuration and weights
    load: Callable[[], Subject]


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers pipeline of the SDXL family and ControlNets for it."""

    pipeline: Path
    controlnets: Mapping[str, Path] = field(default_factory=dict)

    def sources(self) -> dict[str, Source]:
        """Every network by name; a ControlNet's is ``controlnet_`` and its own."""
        pipeline = self.pipeline
        return {
            "text_encoder": Source(pipeline / "text_encoder", partial(_text_encoder, pipeline, 0)),
            "text_encoder_2": Source(pipeline / "text_encoder_2", partial(_text_encoder, pipeline, 1)),
            "unet_encoder": Source(pipeline / "unet", partial(_unet_encoder, pipeline)),
            "unet_decoder": Source(pipeline / "unet", partial(_unet_decoder, pipeline)),
            **{
                f"controlnet_{name}": Source(folder, partial(_controlnet, pipeline, folder))
                for name, folder in self.controlnets.items()
            },
            "vae_decoder": Source(pipeline / "vae", partial(_vae_decoder, pipeline)),
            "vae_encoder": Source(pipeline / "vae", partial(_vae_encoder, pipeline)),
        }


def _text_encoder(pipeline: Path, place: int) -> Subject:
    network = load_text_encoders(pipeline, DTYPE)[place]
    tokens = network.model.config.max_position_embeddings
    inputs = {"ids": TensorSpecification((BATCH, tokens), torch.int64)}
    return Subject(network, inputs, ("hidden", "pooled"))


def _unet_encoder(pipeline: Path) -> Subject:
    network, _, config = load_unet(pipeline, DTYPE)
    skips = [f"skips.{place}" for place in range(len(_skips(config, pipeline)))]
    return Subject(network, _conditions(config, pipeline), ("mid", "embedding", *skips))


def _unet_decoder(pipeline: Path) -> Subject:
    _, network, config = load_unet(pipeline, DTYPE)
    skips = _skips(config, pipeline)
    # the mid block keeps the shape of the last skip
    mid = skips[-1]
    inputs: Inputs = {
        "mid": mid,
        "embedding": TensorSpecification((BATCH, config["block_out_channels"][0] * 4), DTYPE),
        "skips": skips,
        "residuals": [*skips, mid],
        "prompt_embeds": _conditions(config, pipeline)["prompt_embeds"],
    }
    return Subject(network, inputs, ("noise",))


def _controlnet(pipeline: Path, folder: Path) -> Subject:
    network = load_controlnet(folder, DTYPE)
    image = TensorSpecification((1, 3, *picture_axes(1)), DTYPE)
    return Subject(network, {**_conditions(_read(folder), pipeline), "image": image}, ("residuals",))


def _vae_decoder(pipeline: Path) -> Subject:
    network, dtype = load_vae_decoder(pipeline, DTYPE)
    channels = _read(pipeline / "vae")["latent_channels"]
    latents = TensorSpecification((BATCH, channels, *picture_axes(latent_scale(pipeline))), dtype)
    return Subject(network.to(dtype), {"latents": latents}, ("image",), dtype)


def _vae_encoder(pipeline: Path) -> Subject:
    network, dtype = load_vae_encoder(pipeline, DTYPE)
    return Subject(network.to(dtype), {"image": TensorSpecification((BATCH, 3, *picture_axes(1)), dtype)}, ("latents",), dtype)


def latent_scale(pipeline: Path) -> int:
    """Pixels on a side for one latent."""
    return 2 ** (len(_read(pipeline / "vae")["block_out_channels"]) - 1)


def _conditions(config: Mapping[str, Any], pipeline: Path) -> dict[str, TensorSpecification]:
    """What the UNet's encoder and a ControlNet both take."""
    tokens = _read(pipeline / "text_encoder")["max_position_embeddings"]
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    latents = picture_axes(latent_scale(pipeline))
    return {
        "sample": TensorSpecification((BATCH, config["in_channels"], *latents), DTYPE),
        "timestep": TensorSpecification((), torch.float32),
        "prompt_embeds": TensorSpecification((BATCH, tokens, config["cross_attention_dim"]), DTYPE),
        "pooled": TensorSpecification((BATCH, pooled), DTYPE),
        "time_ids": TensorSpecification((BATCH, 6), DTYPE),
    }


def _skips(config: Mapping[str, Any], pipeline: Path) -> list[TensorSpecification]:
    """The skips of a diffusers UNet: the first convolution's, then each layer's and each halving's."""
    scale, widths = latent_scale(pipeline), config["block_out_channels"]

    def skip(width: int, level: int) -> TensorSpecification:
        return TensorSpecification((BATCH, width, *picture_axes(scale, level)), DTYPE)

    skips = [skip(widths[0], 0)]
    for level, width in enumerate(widths):
        skips += [skip(width, level)] * config["layers_per_block"]
        if level < len(widths) - 1:
            skips.append(skip(width, level + 1))
    return skips


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())
