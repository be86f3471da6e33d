"""Module names and metadata as diffusers and PEFT write them, in its present and its older forms.

Present: ``unet.<module>.lora_A.weight`` and ``lora_B``. Before that ``….to_q.lora.down.weight`` and, in
text encoders, ``….q_proj.lora_linear_layer.down.weight``; before that again
``….attn1.processor.to_q_lora.down.weight``, in text encoders ``….self_attn.to_q_lora.down.weight``
(diffusers' ``utils/state_dict_utils.py``).
"""

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swiftdiffusion.adapters.safetensors_file import MalformedFileError
from swiftdiffusion.adapters.targets import NETWORKS, Targets, canonical_name

METADATA_KEY = "lora_adapter_metadata"
PLAIN_PATTERN = re.compile(r"\^?(\w|-|\\?\.)+")
# What the oldest form calls an attention's projections.
OLD_UNET = {"to_out": "to_out.0"}
OLD_TEXT_ENCODER = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def resolve_module(module: str, targets: Targets) -> tuple[str, str] | None:
    """Find (network, canonical parameter name) of ``unet.<module path>``; None if there is no such layer."""
    network, _, path = module.partition(".")
    if network not in NETWORKS:
        return None
    path = canonical_name(path.replace(".processor.", "."))
    stem, dot, last = path.rpartition(".")
    last = (OLD_UNET if network == "unet" else OLD_TEXT_ENCODER).get(last, last)
    parameter = f"{stem}{dot}{last}.weight"
    return (network, parameter) if parameter in targets.layers.get(network, ()) else None


@dataclass(frozen=True)
class PeftMetadata:
    """What ``lora_adapter_metadata`` says of ranks and alphas (diffusers writes it since 0.35).

    `fields` are those of PEFT's `LoraConfig` of each network, keys prefixed with the network;
    `patterns` holds those that give modules values of their own: by field, then by pattern its
    place in the order and its value. diffusers takes alpha from here; ranks must agree with the
    tensors' shapes.
    """

    fields: Mapping[str, Any]
    patterns: Mapping[str, Mapping[str, tuple[int, Any]]]

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> "PeftMetadata":
        """Parse a header's metadata; raises `MalformedFileError` if it is no such thing."""
        try:
            fields = json.loads(metadata.get(METADATA_KEY) or "{}")
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise MalformedFileError(f"has {METADATA_KEY!r} in its header that is not a JSON object")
        patterns = {
            field: {_check_pattern(pattern): (place, value) for place, (pattern, value) in enumerate(table.items())}
            for field, table in fields.items()
            if field.endswith("_pattern") and isinstance(table, dict)
        }
        return cls(fields, patterns)

    def strength(self, network: str, parameter: str, rank: int) -> float:
        """Give alpha / rank of one layer (alpha / √rank for a rank-stabilised LoRA); 1 if nothing is said.

        `rank` is what the file's shapes tell, 0 where they tell none. Raises `MalformedFileError`
        where the metadata contradicts them.
        """
        module = parameter.removesuffix(".weight")
        stated = self._of_module(module, f"{network}.r", f"{network}.rank_pattern", default=rank or 1)
        rank = rank or int(stated)
        alpha = self._of_module(module, f"{network}.lora_alpha", f"{network}.alpha_pattern", default=rank)
        if stated != rank:
            raise MalformedFileError(
                f"says in its metadata that {network} {parameter} has rank {stated:g}, its shapes {rank}"
            )
        return alpha / (math.sqrt(rank) if self.fields.get(f"{network}.use_rslora") else rank)

    def _of_module(self, module: str, field: str, pattern_field: str, default: float) -> float:
        """Take the value of the first pattern that ends the module's path (PEFT's `get_pattern_key`)."""
        table = self.patterns.get(pattern_field)
        matches = [table[spelling] for spelling in _spell(module) if spelling in table] if table else []
        value = min(matches)[1] if matches else self.fields.get(field, default)
        if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise MalformedFileError(f"has {field} in its metadata that is not a number")
        return value


def _spell(module: str) -> list[str]:
    """What a pattern that is the end of a module's path may be."""
    steps = ["text_model", *module.split(".")]
    return [".".join(steps[start:]) for start in range(len(steps))] + ["^" + module, "^text_model." + module]


def _check_pattern(pattern: str) -> str:
    """Return a pattern without escapes.

    PEFT takes patterns for regular expressions, ``(.*\\.)?(pattern)$``. Those that diffusers writes
    are module names, some after a ``^``; only these are taken, and looked up rather than run: an
    expression from outside could take for ever.
    """
    if not PLAIN_PATTERN.fullmatch(pattern):
        raise MalformedFileError(f"has {pattern[:64]!r} in its metadata, a pattern that is not a module's name")
    return pattern.replace("\\.", ".")
