"""The profiles file, which has a table for each optimisation profile.

[square]                    # one size: the fastest
batch = 2                   # a picture with guidance is a batch of two
height = 1024               # pixels
width = 1024

[any]                       # the least, the one at which it is to be fastest, the greatest
batch = [1, 2, 8]
height = [512, 1024, 1536]
width = [512, 1024, 1536]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftdiffusion.engines.tensorrt.records import Profile, Size
from swiftdiffusion.errors import InvalidArgument, shorten
from swiftdiffusion_build.plans.profiles import PREVIEWS, PROMPTS
from swiftdiffusion_build.toml_file import read_toml

KEYS = ("batch", "height", "width")
STEP = 8  # pixels: requests are refused otherwise
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")


def read_profiles(path: Path) -> tuple[Profile, ...]:
    """Read a profiles file, in its order.

    Raises:
        NotFound: there is no file that can be read.
        InvalidArgument: it is no TOML, or says something of which no plan can be built.
    """
    return read_toml(path, "profiles", _interpret)


def _interpret(content: Mapping[str, Any]) -> tuple[Profile, ...]:
    if not content:
        raise InvalidArgument(f"there is no profile; allowed: at least one, a table with {', '.join(KEYS)}")
    profiles: list[Profile] = []
    for name, table in content.items():
        profile = _read_profile(name, table)
        for other in profiles:
            if other.name.casefold() == name.casefold():
                raise InvalidArgument(
                    f"{name} and {other.name} differ in their letters' case alone; allowed: other names"
                )
            if (other.low, other.best, other.high) == (profile.low, profile.best, profile.high):
                raise InvalidArgument(f"{name} has the sizes of {other.name}; allowed: each once")
        profiles.append(profile)
    return tuple(profiles)


def _read_profile(name: str, table: Any) -> Profile:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{shorten(name)} is {shorten(str(table))}; allowed: tables, such as [any]")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"a profile is called {shorten(name)}; allowed: up to 32 letters, digits, _ and -")
    if name.casefold() in (PREVIEWS, PROMPTS):
        raise InvalidArgument(f"a profile is called {name!r}, as is one that a network has of its own; allowed: others")
    if unknown := sorted(table.keys() - {*KEYS}):
        raise InvalidArgument(f"{name}.{unknown[0]} is not known; known: {', '.join(KEYS)}")
    if missing := [key for key in KEYS if key not in table]:
        raise InvalidArgument(f"{name}.{missing[0]} is missing; allowed: a number, or [least, best, greatest]")
    ranges = [_read_range(f"{name}.{key}", table[key], 1 if key == "batch" else STEP) for key in KEYS]
    return Profile(name, *(Size(*corner) for corner in zip(*ranges, strict=True)))


def _read_range(entry: str, value: Any, step: int) -> tuple[int, ...]:
    """The least, the best and the greatest."""
    numbers = value if isinstance(value, list) else [value] * 3
    if len(numbers) != 3 or any(type(number) is not int for number in numbers):  # a boolean is an int, too
        raise InvalidArgument(
            f"{entry} is {shorten(str(value))}; allowed: a whole number, or three: [least, best, greatest]"
        )
    low, best, high = numbers
    if not 0 < low <= best <= high:
        raise InvalidArgument(f"{entry} is {value}; allowed: 0 < least <= best <= greatest")
    for number in numbers:
        if number % step:
            raise InvalidArgument(f"{entry} is {value}; allowed: multiples of {step} pixels")
    return low, best, high
