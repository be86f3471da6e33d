"""A model's configuration: the ``parameters`` of its ``config.pbtxt``, read once into a frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from swiftdiffusion.errors import InvalidArgument

Configuration = TypeVar("Configuration")


class Location(str):
    """A folder's absolute path, or an address with its protocol."""

    @property
    def is_remote(self) -> bool:
        """Whether it is an address."""
        return "://" in self


def read_configuration(
    family: type[Configuration], parameters: Mapping[str, str], model_repository: Path
) -> Configuration:
    """Build `family`, a dataclass with fields of str, int, float, bool, Path or Location, from Triton's strings.

    Relative paths are taken from `model_repository`, the folder that tritonserver serves. Keys in
    capitals are Triton's own (FORCE_CPU_ONLY_INPUT_TENSORS and the like) and are left to it.

    Raises:
        InvalidArgument: naming the parameter, its value and what is allowed.
    """
    types = get_type_hints(family)
    own = {key: value for key, value in parameters.items() if not key.isupper()}
    known = {field.name: field for field in fields(family)}  # type: ignore[arg-type]
    if unknown := sorted(own.keys() - known.keys()):
        raise InvalidArgument(f"parameter {unknown[0]!r} is not known; known: {', '.join(sorted(known))}")
    required = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if missing := sorted(required - own.keys()):
        raise InvalidArgument(f"parameter {missing[0]!r} is missing from config.pbtxt")
    values = {key: _convert(key, text, types[key], model_repository) for key, text in own.items()}
    return family(**values)


def _convert(key: str, text: str, kind: type, model_repository: Path) -> Any:
    if kind is Location:
        return Location(text if "://" in text else (model_repository / Path(text).expanduser()).resolve())
    if Path in (kind, *get_args(kind)):
        return (model_repository / Path(text).expanduser()).resolve()
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise InvalidArgument(f"parameter {key!r} is {text!r}; allowed: true, false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise InvalidArgument(f"parameter {key!r} is {text!r}; it must be of type {kind.__name__}") from None


def split_names(text: str) -> list[str]:
    """The names in "edges, layout"."""
    return [name for part in text.split(",") if (name := part.strip())]


def require_range(key: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high] (NaN included) with a sentence that names it."""
    if not low <= value <= high:
        raise InvalidArgument(f"parameter {key!r} is {value}; it must lie in [{low}, {high}]")
