"""How the prompt and the time reach a network's blocks."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Steering:
    """As diffusers' blocks take them: the prompt's embeddings and the time's, which each layer projects for itself."""

    def prepare(self, prompt_embeds: Tensor) -> Any:
        """What the blocks get of the prompt, the same at every step."""
        return prompt_embeds

    def prompt(self, prepared: Any) -> Any:
        """The blocks' ``encoder_hidden_states``."""
        return prepared

    def time(self, embedding: Tensor, prepared: Any) -> Any:
        """The blocks' ``temb``, from the step's time embedding [batch, width]."""
        return embedding
