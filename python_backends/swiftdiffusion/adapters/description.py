"""What a person wants to know of a LoRA before using it, from its file's header alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from swiftdiffusion.adapters.layout import lay_out
from swiftdiffusion.adapters.profile import read_profile
from swiftdiffusion.adapters.safetensors_file import MalformedFileError
from swiftdiffusion.adapters.store import AdapterStore
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.errors import InvalidArgument, Unavailable

# What trainers call it: the SAI model specification, kohya's scripts, diffusers' examples and others.
BASE_KEYS = ("modelspec.architecture", "ss_base_model_version", "base_model", "ss_sd_model_name")
TRIGGER_KEYS = ("modelspec.trigger_phrase", "trigger_words", "trigger", "activation text", "instance_prompt")
DESCRIPTION_KEYS = ("modelspec.description", "description")
TAGS_KEY = "ss_tag_frequency"  # kohya's: how often each word described a training picture
TAGS_SHOWN = 8
TEXT_SHOWN = 500  # characters of what a file says


def describe(store: AdapterStore, name: str, targets: Targets) -> dict[str, Any]:
    """Describe one LoRA, fit for JSON.

    Name, size in bytes, algorithms, ranks, how many weights of each network it changes, the base model and trigger
    words that its metadata tell, and the last step that may start without it where it was profiled.

    Raises what `AdapterStore.find` and `lay_out` raise, and `InvalidArgument` for a malformed file.
    """
    file = store.find(name)
    try:
        header = store.read_header(file)
    except MalformedFileError as error:
        raise InvalidArgument(f"LoRA {name!r} {error}.") from None
    except OSError as error:
        raise Unavailable(f"LoRA {name!r} cannot be read: {error.strerror or type(error).__name__}.") from error
    layers = lay_out(name, header, targets).layers
    profile = read_profile(store, file)
    return {
        "name": name,
        "bytes": file.size,
        "algorithms": sorted({layer.algorithm for layer in layers}),
        "dora": any("magnitude" in layer.keys for layer in layers),
        "ranks": sorted({layer.rank for layer in layers}),
        "targets": dict(sorted(Counter(layer.network for layer in layers).items())),
        "base": _first(header.metadata, BASE_KEYS),
        "trigger_words": _first(header.metadata, TRIGGER_KEYS) or _list_tags(header.metadata),
        "description": _first(header.metadata, DESCRIPTION_KEYS),
        "bound": None if profile is None else profile.bound,
        "bound_of_steps": None if profile is None else profile.steps,
    }


def _first(metadata: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    return next((metadata[key][:TEXT_SHOWN] for key in keys if metadata.get(key)), None)


def _list_tags(metadata: Mapping[str, str]) -> str | None:
    """The words that were most often with the training pictures."""
    try:
        folders = json.loads(metadata.get(TAGS_KEY) or "{}").values()
        counts = Counter[str]()
        for folder in folders:
            counts.update({str(tag).strip(): int(count) for tag, count in folder.items()})
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return ", ".join(tag for tag, _ in counts.most_common(TAGS_SHOWN))[:TEXT_SHOWN] or None
