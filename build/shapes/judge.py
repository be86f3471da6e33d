"""Whether a picture shows what was asked, judged from its pixels alone by classical image analysis.

No part of training uses this, and it uses no network: the border's colour is the background, what differs from
it falls into connected components, and each component is named by its palette colour, by the shape whose template
fits its box best, and by its size.
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from shapes.geometry import BACKGROUNDS, COLOURS, SHAPES, SIZES, polygon

Picture = NDArray[np.uint8]
"""[h, w, 3], sRGB."""

_FOREGROUND = 45  # of 255: how far a channel must lie from the background
_SPECK = 24  # pixels of a 128 x 128 picture: smaller components are not seen
_COLOUR_TOLERANCE = 60  # Euclidean, of 255
_MIN_OVERLAP = 0.65
_ASPECT_TOLERANCE = 1.25
_TEMPLATE_SIDE = 48


@dataclass(frozen=True)
class Object:
    """What a component looks like; `unknown` where it is like nothing. `x` and `y` in fractions of the picture."""

    shape: str
    colour: str
    size: str
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Request:
    """What was asked: objects whose size may be open (""), relations of the first to each other one, background.

    `relations` is empty, or one of RELATIONS for each object after the first.
    """

    objects: tuple[Object, ...]
    relations: tuple[str, ...] = ()
    background: str = "white"


@dataclass(frozen=True)
class Verdict:
    """`right` only if all the others are."""

    count: bool
    objects: bool
    relations: bool
    background: bool

    @property
    def right(self) -> bool:
        """Exactly the asked objects, in the asked relations, on the asked background."""
        return self.count and self.objects and self.relations and self.background


def judge(picture: Picture, request: Request) -> Verdict:
    """Compare a picture with what was asked; an object more or fewer is wrong."""
    found = see_objects(picture)
    count = len(found) == len(request.objects)
    orders = [order for order in permutations(found) if _same_objects(order, request)] if count else []
    return Verdict(
        count=count,
        objects=bool(orders),
        relations=any(_related(order, request.relations) for order in orders),
        background=see_background(picture) == request.background,
    )


def see_background(picture: Picture) -> str:
    """Name of the border's median colour."""
    return _nearest(_border_colour(picture), BACKGROUNDS)


def foreground(picture: Picture) -> NDArray[np.bool_]:
    """[h, w]: where the picture differs from its border's colour."""
    return _contrast(picture) > _FOREGROUND


def see_objects(picture: Picture) -> list[Object]:
    """Every connected component of the foreground that is no speck."""
    height, width = picture.shape[:2]
    contrast = _contrast(picture)
    labels, _ = ndimage.label(contrast > _FOREGROUND, structure=np.ones((3, 3)))
    objects = []
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels[box] == index
        if mask.sum() * (128 / width) * (128 / height) < _SPECK:
            continue
        # A border lies where the contrast has fallen by half: soft ones would else widen small shapes.
        mask &= contrast[box] > 0.5 * np.percentile(contrast[box][mask], 90)
        core = ndimage.binary_erosion(mask, iterations=2)
        colour = np.median(picture[box][core if core.any() else mask], axis=0)
        y, x = (
            (part.start + middle) / length
            for part, middle, length in zip(box, ndimage.center_of_mass(mask), (height, width), strict=True)
        )
        shape = _see_shape(mask[ndimage.find_objects(mask.astype(int))[0]])
        objects.append(Object(shape, _nearest(colour, COLOURS), _see_size(mask, shape, width), x, y))
    return objects


def _contrast(picture: Picture) -> NDArray[np.float64]:
    """[h, w]: how far the most different channel lies from the border's colour, of 255."""
    difference = np.abs(picture.astype(np.float64) - _border_colour(picture))
    return difference.max(axis=2)


def _border_colour(picture: Picture) -> NDArray[np.float64]:
    border = np.concatenate(
        [
            picture[:2].reshape(-1, 3),
            picture[-2:].reshape(-1, 3),
            picture[:, :2].reshape(-1, 3),
            picture[:, -2:].reshape(-1, 3),
        ]
    )
    return np.median(border, axis=0)


def _nearest(colour: NDArray[np.float64], palette: dict[str, tuple[int, int, int]]) -> str:
    name = min(palette, key=lambda candidate: math.dist(colour, palette[candidate]))
    return name if math.dist(colour, palette[name]) <= _COLOUR_TOLERANCE else "unknown"


def _see_shape(mask: NDArray[np.bool_]) -> str:
    height, width = mask.shape
    overlaps = {}
    for shape in SHAPES:
        template, aspect = _template(shape)
        stretch = (width / height) / aspect
        if not 1 / _ASPECT_TOLERANCE < stretch < _ASPECT_TOLERANCE:
            continue
        fitted = Image.fromarray(mask).convert("L").resize((_TEMPLATE_SIDE, _TEMPLATE_SIDE), Image.Resampling.BILINEAR)
        pixels = np.asarray(fitted) > 127
        overlaps[shape] = (pixels & template).sum() / (pixels | template).sum()
    best = max(overlaps, key=lambda shape: overlaps[shape], default="unknown")
    return best if overlaps.get(best, 0) >= _MIN_OVERLAP else "unknown"


def _see_size(mask: NDArray[np.bool_], shape: str, width: int) -> str:
    """By the circumscribed radius that gives the shape its area; `unknown` far outside of both sizes."""
    if shape == "unknown":
        return "unknown"
    radius = math.sqrt(mask.sum() / _area(shape)) / width
    (smallest, small), (large, largest) = SIZES.values()
    if not 0.75 * smallest < radius < 1.25 * largest:
        return "unknown"
    return "small" if radius < math.sqrt(small * large) else "large"


def _area(shape: str) -> float:
    """Of the shape in its unit circle, by the shoelace formula."""
    x, y = polygon(shape).T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


@cache
def _template(shape: str) -> tuple[NDArray[np.bool_], float]:
    """The shape stretched over a square of pixels, and its own width by height."""
    corners = polygon(shape)
    low, high = corners.min(axis=0), corners.max(axis=0)
    image = Image.new("1", (_TEMPLATE_SIDE, _TEMPLATE_SIDE))
    stretched = (corners - low) / (high - low) * _TEMPLATE_SIDE
    ImageDraw.Draw(image).polygon([(x - 0.5, y - 0.5) for x, y in stretched], fill=1)
    extent = high - low
    return np.asarray(image), float(extent[0] / extent[1])


def _same_objects(found: tuple[Object, ...], request: Request) -> bool:
    return all(
        (seen.shape, seen.colour) == (asked.shape, asked.colour) and asked.size in ("", seen.size)
        for seen, asked in zip(found, request.objects, strict=True)
    )


def _related(found: tuple[Object, ...], relations: tuple[str, ...]) -> bool:
    return all(_holds(relation, found[0], other) for relation, other in zip(relations, found[1:], strict=False))


def _holds(relation: str, first: Object, second: Object) -> bool:
    dx, dy = second.x - first.x, second.y - first.y
    return {
        "and": True,
        "left of": dx > abs(dy),
        "right of": -dx > abs(dy),
        "above": dy > abs(dx),
        "below": -dy > abs(dx),
    }[relation]
