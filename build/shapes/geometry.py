"""The world's constants: shapes as polygons in a unit frame, colours and backgrounds as sRGB bytes, two sizes.

Nothing here needs torch. The order of each table is the order of the ids used everywhere else.
"""

import math

import numpy as np
from numpy.typing import NDArray

COLOURS = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 220, 50),
    "green": (50, 165, 70),
    "cyan": (60, 205, 220),
    "blue": (40, 80, 210),
    "purple": (135, 60, 180),
    "pink": (245, 130, 190),
}
BACKGROUNDS = {"white": (245, 245, 245), "grey": (128, 128, 128), "black": (20, 20, 20)}

SIZES = {"small": (0.095, 0.11), "large": (0.17, 0.19)}
"""Range of a shape's circumscribed radius, as a fraction of the canvas's side."""


def polygon(shape: str) -> NDArray[np.float64]:
    """Corners [k, 2] of a shape inside the unit circle, x to the right and y down; one of `SHAPES`."""
    return _POLYGONS[shape].copy()


def _regular(corners: int, start: float, radii: tuple[float, ...] = (1.0,)) -> NDArray[np.float64]:
    angles = start + 2 * math.pi * np.arange(corners) / corners
    radius = np.resize(radii, corners)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _plus(half_width: float) -> NDArray[np.float64]:
    w, one = half_width, math.sqrt(1 - half_width**2)
    arm = [(w, -one), (w, -w), (one, -w)]
    turns = [(np.array(arm) @ np.array([[c, s], [-s, c]])) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate(turns)


def _heart() -> NDArray[np.float64]:
    # The usual parametric heart, scaled into the unit circle: https://mathworld.wolfram.com/HeartCurve.html
    t = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    points = np.stack([x, y - 2.5], axis=1)
    return points / np.linalg.norm(points, axis=1).max()


_POLYGONS = {
    "circle": 0.92 * _regular(96, 0.0),
    "square": _regular(4, math.pi / 4),
    "triangle": _regular(3, -math.pi / 2),
    "star": _regular(10, -math.pi / 2, (1.0, 0.45)),
    "cross": _plus(0.3),
    "heart": _heart(),
}
SHAPES = tuple(_POLYGONS)
