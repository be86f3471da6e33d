"""Optimisation profiles: the sizes that plans are built for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple, replace
from math import prod

from swiftdiffusion.engines.tensorrt.records import Profile, Size
from swiftdiffusion.errors import InvalidArgument

SIZES_STEP = 8  # pixels: requests are refused otherwise
PREVIEW_LATENTS = 8  # the shorter side of the smallest preview
_RANGE = re.compile(r"(\d+)(?:-(\d+))?(?:-(\d+))?")


def parse_profile(text: str) -> Profile:
    """Read ``name=BATCHxHEIGHTxWIDTH``, each a number, ``low-high`` or ``low-best-high``; sizes in pixels.

    Raises:
        InvalidArgument: a text of another form, numbers out of order, or a size that is no multiple of 8.
    """
    name, _, ranges = text.partition("=")
    matches = [_RANGE.fullmatch(part) for part in ranges.split("x")]
    if not name or len(matches) != 3 or not all(matches):
        raise InvalidArgument(
            f"profile {text!r} is not of the form name=BATCHxHEIGHTxWIDTH, such as fixed=2x1024x1024 or "
            "any=1-2-8x512-1024-1536x512-1024-1536"
        )
    bounds = [_bounds(match) for match in matches if match]
    for low, best, high in bounds:
        if not 0 < low <= best <= high:
            raise InvalidArgument(f"profile {text!r} has {low}-{best}-{high}; allowed: 0 < low <= best <= high")
    for pixels in (*bounds[1], *bounds[2]):
        if pixels % SIZES_STEP:
            raise InvalidArgument(f"profile {text!r} has {pixels} pixels; allowed: multiples of {SIZES_STEP}")
    return Profile(name, *(Size(*corner) for corner in zip(*bounds, strict=True)))


def _bounds(match: re.Match[str]) -> tuple[int, int, int]:
    low, second, third = (None if group is None else int(group) for group in match.groups())
    assert low is not None
    high = third or second or low
    return low, (second if third else high) or high, high


def default_profiles(native: int) -> tuple[Profile, ...]:
    """For a pipeline whose pictures have `native` pixels a side: that size with guidance, then any near it."""
    small, large = (round(native * share / 64) * 64 for share in (0.5, 1.5))
    return (
        Profile("fixed", *[Size(2, native, native)] * 3),
        Profile("any", Size(1, small, small), Size(2, native, native), Size(8, large, large)),
    )


def adapt(profiles: Sequence[Profile], network: str, pixels_per_latent: int) -> tuple[Profile, ...]:
    """The profiles as a network is called: the VAE's with one picture, and its decoder with small previews too.

    The narrowest come first, for an engine takes the first that fits.
    """
    profiles = sorted(profiles, key=_measure)
    if not network.startswith("vae_"):
        return tuple(profiles)
    alone = [
        replace(p, **{end: replace(getattr(p, end), batch=1) for end in ("low", "best", "high")}) for p in profiles
    ]
    if network == "vae_decoder":
        side = PREVIEW_LATENTS * pixels_per_latent
        alone = [p if p.low == p.high else replace(p, low=Size(1, side, side)) for p in alone]
    return tuple(alone)


def _measure(profile: Profile) -> int:
    """How many sizes there are in a profile."""
    low, high = astuple(profile.low), astuple(profile.high)
    return prod(most - least + 1 for least, most in zip(low, high, strict=True))
