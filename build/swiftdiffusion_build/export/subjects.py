"""What is exported: every network of a checkpoint, with the shapes that its inputs can have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.networks.network import Network
from swiftdiffusion.networks.text_encoder import load_text_encoders
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.networks.vae_decoder import load_vae_decoder
from swiftdiffusion.networks.vae_encoder import find_safe_dtype, load_vae_encoder
from swiftdiffusion_build.export.specification import BATCH, Axis, Inputs, TensorSpecification, picture_axes

DTYPE = torch.float16


@dataclass(frozen=True)
class Subject:
    """One network: where its weights come from, what goes in and what comes out."""

    name: str
    load: Callable[[], Network]  # onto the CPU, in `dtype`
    inputs: Inputs
    outputs: tuple[str, ...]
    dtype: torch.dtype = DTYPE
    takes_loras: bool = False  # its layers' weights change while it is served


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers pipeline of the SDXL family and the folders of ControlNets for it.

    Raises:
        InvalidArgument: two ControlNets of one name, which is their folder's.
    """

    pipeline: Path
    controlnets: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        places: dict[str, Path] = {}
        for folder in self.controlnets:
            if folder.name in places:
                raise InvalidArgument(
                    f"two ControlNets are called {folder.name!r}: {places[folder.name]} and {folder}; allowed: folders "
                    "with different names, which requests then use"
                )
            places[folder.name] = folder

    @property
    def pixels_per_latent(self) -> int:
        """On a side."""
        return 2 ** (len(_read(self.pipeline / "vae")["block_out_channels"]) - 1)

    @property
    def native_pixels(self) -> int:
        """On a side of a picture of the size that the pipeline was trained for."""
        return _read(self.pipeline / "unet")["sample_size"] * self.pixels_per_latent

    def subjects(self) -> dict[str, Subject]:
        """Every network by name, read from the configurations alone; a ControlNet has its folder's name."""
        subjects = (
            self._text_encoder("text_encoder", 0),
            self._text_encoder("text_encoder_2", 1),
            self._unet_encoder(),
            self._unet_decoder(),
            *(self._controlnet(folder) for folder in self.controlnets),
            self._vae_decoder(),
            self._vae_encoder(),
        )
        return {subject.name: subject for subject in subjects}

    def _text_encoder(self, name: str, place: int) -> Subject:
        inputs = {"ids": TensorSpecification((BATCH, self._tokens(name)), torch.int64)}
        outputs = ("hidden", "pooled")
        return Subject(name, lambda: load_text_encoders(self.pipeline, DTYPE)[place], inputs, outputs, takes_loras=True)

    def _unet_encoder(self) -> Subject:
        config = _read(self.pipeline / "unet")
        outputs = ("mid", "embedding", *(f"skips.{place}" for place in range(len(self._skips(config)))))
        return Subject(
            "unet_encoder",
            lambda: load_unet(self.pipeline, DTYPE)[0],
            self._conditions(config),
            outputs,
            takes_loras=True,
        )

    def _unet_decoder(self) -> Subject:
        config = _read(self.pipeline / "unet")
        skips = self._skips(config)
        mid = skips[-1]  # the mid block keeps the shape
        inputs: Inputs = {
            "mid": mid,
            "embedding": TensorSpecification((BATCH, config["block_out_channels"][0] * 4), DTYPE),
            "skips": skips,
            "residuals": [*skips, mid],
            "prompt_embeds": self._conditions(config)["prompt_embeds"],
        }
        return Subject("unet_decoder", lambda: load_unet(self.pipeline, DTYPE)[1], inputs, ("noise",), takes_loras=True)

    def _controlnet(self, folder: Path) -> Subject:
        image = TensorSpecification((1, 3, *picture_axes(1)), DTYPE)
        inputs = {**self._conditions(_read(folder)), "image": image}
        return Subject(f"controlnet_{folder.name}", lambda: load_controlnet(folder, DTYPE), inputs, ("residuals",))

    def _vae_decoder(self) -> Subject:
        channels = _read(self.pipeline / "vae")["latent_channels"]
        latents = TensorSpecification((BATCH, channels, *self._latents()), DTYPE)
        return Subject("vae_decoder", lambda: load_vae_decoder(self.pipeline, DTYPE), {"latents": latents}, ("image",))

    def _vae_encoder(self) -> Subject:
        dtype = find_safe_dtype(self.pipeline, DTYPE)
        image = TensorSpecification((BATCH, 3, *picture_axes(1)), dtype)
        return Subject(
            "vae_encoder",
            lambda: load_vae_encoder(self.pipeline, dtype)[0].to(dtype),
            {"image": image},
            ("latents",),
            dtype,
        )

    def _tokens(self, text_encoder: str) -> int:
        return _read(self.pipeline / text_encoder)["max_position_embeddings"]

    def _latents(self, level: int = 0) -> tuple[Axis, Axis]:
        return picture_axes(self.pixels_per_latent, level)

    def _conditions(self, config: Mapping[str, Any]) -> dict[str, TensorSpecification]:
        """What the UNet's encoder and a ControlNet both take."""
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        prompt = (BATCH, self._tokens("text_encoder"), config["cross_attention_dim"])
        return {
            "sample": TensorSpecification((BATCH, config["in_channels"], *self._latents()), DTYPE),
            "timestep": TensorSpecification((), torch.float32),
            "prompt_embeds": TensorSpecification(prompt, DTYPE),
            "pooled": TensorSpecification((BATCH, pooled), DTYPE),
            "time_ids": TensorSpecification((BATCH, 6), DTYPE),
        }

    def _skips(self, config: Mapping[str, Any]) -> list[TensorSpecification]:
        """The skips of a diffusers UNet: the first convolution's, then each layer's and each halving's."""
        widths = config["block_out_channels"]

        def skip(width: int, level: int) -> TensorSpecification:
            return TensorSpecification((BATCH, width, *self._latents(level)), DTYPE)

        skips = [skip(widths[0], 0)]
        for level, width in enumerate(widths):
            skips += [skip(width, level)] * config["layers_per_block"]
            if level < len(widths) - 1:
                skips.append(skip(width, level + 1))
        return skips


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())
