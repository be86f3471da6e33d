"""A pen for plots, which draws sharply at twice the size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

SCALE = 2  # pixels a unit
PAPER, INK, FAINT, GRID = "white", "#202020", "#808080", "#e4e4e4"
Anchor = Literal["la", "lm", "rm", "mm"]  # as Pillow's: left, right or middle; ascender or middle


class Pen:
    """Draws on a new picture, in units of `SCALE` pixels."""

    def __init__(self, width: float, height: float) -> None:
        self.picture = Image.new("RGB", (round(SCALE * width), round(SCALE * height)), PAPER)
        self._pen = ImageDraw.Draw(self.picture)

    def write(self, x: float, y: float, text: str, colour: str, size: int, anchor: Anchor = "la") -> None:
        """Write one line."""
        self._pen.text((SCALE * x, SCALE * y), text, colour, ImageFont.load_default(SCALE * size), anchor=anchor)

    def fill(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fill a rectangle, at least one pixel wide."""
        right = max(SCALE * (x + width), SCALE * x + 1)
        self._pen.rectangle((SCALE * x, SCALE * y, right, SCALE * (y + height)), colour)

    def join(self, points: Sequence[tuple[float, float]], colour: str, width: int = 1) -> None:
        """Draw a line through the points."""
        self._pen.line([(SCALE * x, SCALE * y) for x, y in points], colour, SCALE * width, joint="curve")

    def dot(self, x: float, y: float, colour: str, radius: float) -> None:
        """Draw a point."""
        self._pen.circle((SCALE * x, SCALE * y), SCALE * radius, colour)


def measure_text(text: str, size: int) -> float:
    """The width of a line."""
    return ImageFont.load_default(SCALE * size).getlength(text) / SCALE
