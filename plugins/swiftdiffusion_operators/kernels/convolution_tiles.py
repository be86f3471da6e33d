"""What one program of the convolution multiplies at a time, and how much of it."""

from __future__ import annotations

from typing import NamedTuple

import triton

UNIT = 64  # pixels that a group multiplies
DEPTH = 64  # channels of a step
SHARED_MEMORY = 227 * 1024 - 1024  # bytes for the stages; what is left is the barriers'
UNITS = ((1, 64), (2, 32), (4, 16), (8, 8), (16, 4), (32, 2), (64, 1))  # heights and widths that 64 pixels may have


class Width(NamedTuple):
    """How many channels a tile of results has, in two products, and how fast those are, relative to the widest."""

    wide: int
    narrow: int
    speed: float

    @property
    def channels(self) -> int:
        """Of both."""
        return self.wide + self.narrow

    @property
    def piece(self) -> int:
        """Channels that residuals and results come and leave in."""
        return self.narrow or 64

    @property
    def stages(self) -> int:
        """Steps that shared memory holds."""
        return SHARED_MEMORY // ((2 * UNIT + self.channels) * DEPTH * 2)


WIDTHS = (Width(256, 64, 1.0), Width(256, 0, 0.97), Width(128, 32, 0.9), Width(128, 0, 0.85))


def choose_unit(height: int, width: int) -> tuple[int, int]:
    """The height and width of the 64 pixels that cover a picture with the fewest units, of those the widest."""
    return min(UNITS, key=lambda unit: triton.cdiv(height, unit[0]) * triton.cdiv(width, unit[1]))


def choose_width(units: int, out: int, programs: int) -> Width:
    """The tiles' width with which so many programs at a time should be done first."""

    def last(width: Width) -> float:
        tiles = triton.cdiv(units, 2) * triton.cdiv(out, width.channels)
        return triton.cdiv(tiles, programs) * width.channels / width.speed

    return min(WIDTHS, key=last)
