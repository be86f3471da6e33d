"""Scenes to pictures, batched on any device: signed distances from a texture, then blended with soft borders."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from shapes.geometry import BACKGROUNDS, COLOURS, SHAPES, polygon
from shapes.world import MAX_OBJECTS, Scenes

STYLES = ("plain", "outline", "pixelated", "night", "hatching")

BLOCK = 8  # pixels, of the pixelated style
HATCH_PERIOD = 8  # pixels along x and along y
_STROKE = 3.5 / 128  # of the canvas's side, the outline style's
_GLOW = 6 / 128
_NIGHT_BACKGROUNDS = {"white": (46, 56, 110), "grey": (28, 34, 78), "black": (12, 15, 50)}

_TEXTURE_SIDE = 128
_TEXTURE_REACH = 1.5  # the texture covers [-reach, reach]² of the shape's unit frame


def render(scenes: Scenes, side: int, style: str = "plain") -> Tensor:
    """Pictures [n, 3, side, side] in [-1, 1], float32, on the scenes' device.

    Raises ValueError for a style that is not one of `STYLES`.
    """
    if style not in STYLES:
        raise ValueError(f"style {style!r} is not one of {', '.join(STYLES)}")
    distance = signed_distances(scenes, side)
    backgrounds = _NIGHT_BACKGROUNDS if style == "night" else BACKGROUNDS
    canvas = _table(backgrounds, scenes.background)[:, :, None, None].expand(-1, -1, side, side)
    for slot in range(MAX_OBJECTS):
        inside = distance[:, slot, None]
        coverage = (0.5 - inside).clamp(0, 1)
        if style == "outline":
            coverage = coverage * (0.5 + inside + _STROKE * side).clamp(0, 1)
        elif style == "hatching":
            coverage = coverage * _hatches(side, inside.device)
        elif style == "night":
            coverage = torch.maximum(coverage, 0.55 * torch.exp(-inside.clamp(min=0) / (_GLOW * side)))
        coverage = coverage * scenes.present[:, slot, None, None, None]
        colour = _table(COLOURS, scenes.colour[:, slot])[:, :, None, None]
        canvas = canvas + coverage * (colour - canvas)
    if style == "pixelated":
        canvas = functional.interpolate(functional.avg_pool2d(canvas, BLOCK), scale_factor=BLOCK)
    return 2 * canvas - 1


def signed_distances(scenes: Scenes, side: int) -> Tensor:
    """Distance [n, 3, side, side] in pixels from each pixel's middle to each object's border, negative inside."""
    device = scenes.centre.device
    n = len(scenes)
    middle = (torch.arange(side, device=device) + 0.5) / side
    grid = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), dim=-1)
    local = (grid - scenes.centre.reshape(-1, 1, 1, 2)) / scenes.radius.reshape(-1, 1, 1, 1)
    covered = local.clamp(-_TEXTURE_REACH, _TEXTURE_REACH)
    textures = _textures(device)[scenes.shape.flatten(), None]
    sampled = functional.grid_sample(textures, covered / _TEXTURE_REACH, padding_mode="border", align_corners=False)
    distance = sampled.squeeze(1) + (local - covered).norm(dim=-1)
    return distance.view(n, MAX_OBJECTS, side, side) * (scenes.radius * side)[:, :, None, None]


def _hatches(side: int, device: torch.device) -> Tensor:
    """[side, side] in [0, 1]: diagonal strokes as wide as the gaps between them."""
    place = torch.arange(side, device=device, dtype=torch.float32)
    phase = ((place[:, None] + place[None]) % HATCH_PERIOD) / HATCH_PERIOD
    to_stroke = (phase - 0.5).abs() * HATCH_PERIOD - HATCH_PERIOD / 4
    return (0.5 - to_stroke).clamp(0, 1)


def _table(colours: dict[str, tuple[int, int, int]], ids: Tensor) -> Tensor:
    return _palette(tuple(colours.values()), ids.device)[ids]


@cache  # a copy from the host would forbid capture in a CUDA graph
def _palette(colours: tuple[tuple[int, int, int], ...], device: torch.device) -> Tensor:
    return torch.tensor(colours, device=device) / 255


@cache
def _textures(device: torch.device) -> Tensor:
    """Signed distance fields [shapes, texture side, texture side] in units of the circumscribed radius."""
    ticks = ((np.arange(_TEXTURE_SIDE) + 0.5) / _TEXTURE_SIDE * 2 - 1) * _TEXTURE_REACH
    points = np.stack(np.meshgrid(ticks, ticks, indexing="xy"), axis=-1).reshape(-1, 2)
    fields = [_polygon_distance(points, polygon(shape)) for shape in SHAPES]
    return torch.tensor(np.stack(fields).reshape(-1, _TEXTURE_SIDE, _TEXTURE_SIDE), dtype=torch.float32, device=device)


def _polygon_distance(points: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed distances [p] of points [p, 2] from a closed polygon [k, 2]; inside by the even-odd rule."""
    nearest = np.full(len(points), np.inf)
    crossings = np.zeros(len(points), dtype=bool)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge, offset = end - start, points - start
        along = np.clip(offset @ edge / (edge @ edge), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(offset - along[:, None] * edge, axis=1))
        straddles = (start[1] > points[:, 1]) != (end[1] > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing_x = start[0] + (points[:, 1] - start[1]) / (end[1] - start[1]) * edge[0]
        crossings ^= straddles & (points[:, 0] < crossing_x)
    return np.where(crossings, -nearest, nearest)
