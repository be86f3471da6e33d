"""How the prompt and the time reach a network's blocks."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional


class Steering:
    """As diffusers' blocks take them: the prompt's embeddings and the time's, which each layer projects for itself.

    The first samples of a batch may have no words, as SDXL's pipeline draws without a negative prompt. Their embeddings
    are zeros, and are not given.
    """

    def prepare(self, prompt_embeds: Tensor) -> Any:
        """What the blocks get of the prompts [batch or less, tokens, width], the same at every step."""
        return prompt_embeds

    def prompt(self, prepared: Any, batch: int) -> Any:
        """The blocks' ``encoder_hidden_states`` for a batch."""
        wordless = batch - prepared.shape[0]
        return functional.pad(prepared, (0, 0, 0, 0, wordless, 0)) if wordless else prepared

    def time(self, embedding: Tensor, prepared: Any) -> Any:
        """The blocks' ``temb``, from the step's time embedding [batch, width]."""
        return embedding
