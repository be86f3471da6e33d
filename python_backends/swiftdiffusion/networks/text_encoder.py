"""One of SDXL's two CLIP text encoders as a network, and the tokenizer before it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from swiftdiffusion.networks.network import Network


class TextEncoder(Network):
    """A CLIP text model; SDXL reads its penultimate layer (arXiv 2307.01952, section 2.1)."""

    prefix = "model."

    def __init__(self, model: CLIPTextModel | CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.configuration = model.config.to_dict()
        self.model = model

    def step(self, ids: Tensor, prepared: tuple[()]) -> tuple[Tensor, Tensor]:
        """Encode token ids [batch, tokens].

        Returns:
            Hidden states of the penultimate layer [batch, tokens, width], and the model's first output: the
            projected end-of-text token [batch, pooled width] where it has a projection.
        """
        output = self.model(ids, output_hidden_states=True)
        return output.hidden_states[-2], output[0]


def load_text_encoders(folder: Path, dtype: torch.dtype) -> tuple[TextEncoder, TextEncoder]:
    """Read both text encoders of a pipeline's folder (safetensors only), on the CPU."""
    first = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype, use_safetensors=True)
    second = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2", dtype=dtype, use_safetensors=True)
    return TextEncoder(first), TextEncoder(second)


def load_tokenizers(folder: Path) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """Read both tokenizers of a pipeline's folder."""
    return (
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
    )


def tokenize(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Token ids [prompts, tokens] (int64), cut or padded to the tokenizer's length as diffusers does."""
    return tokenizer(
        prompts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
