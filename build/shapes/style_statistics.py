"""One number a style that tells its pictures from plain ones, and where the line between them lies."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from shapes.judge import Picture, foreground

_BLOCK = 8  # pixels, as in the pixelated and the hatched style
_SMALLEST_DEPTH = 2.42  # mean depth of the smallest filled shape in pixels, at a side of 128


@dataclass(frozen=True)
class Statistic:
    """A picture has the style where `measure` gives more than `threshold`."""

    description: str
    measure: Callable[[Picture], float]
    threshold: float

    def shows_style(self, picture: Picture) -> bool:
        """Whether the picture, uint8 [h, w, 3], is on the style's side of the line."""
        return self.measure(picture) > self.threshold


def _hollowness(picture: Picture) -> float:
    """How much less deep the drawn pixels lie below a border than if all holes were filled; open strokes have none."""
    drawn = foreground(picture)
    if not drawn.any():
        return 0.0
    filled = ndimage.binary_fill_holes(drawn)
    depth, full_depth = (
        ndimage.distance_transform_edt(mask)[mask].mean() * 128 / picture.shape[1] for mask in (drawn, filled)
    )
    return float(1 - depth / max(full_depth, _SMALLEST_DEPTH))


def _blockiness(picture: Picture) -> float:
    height, width = (length // _BLOCK * _BLOCK for length in picture.shape[:2])
    cells = picture[:height, :width].astype(np.float64)
    cells = cells.reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, 3)
    means = cells.mean(axis=(1, 3), keepdims=True)
    inside = np.square(cells - means).mean()
    return float(1 - inside / max(1e-6, inside + np.square(means - means.mean(axis=(0, 2), keepdims=True)).mean()))


def _blueness(picture: Picture) -> float:
    border = np.concatenate([picture[:2].reshape(-1, 3), picture[-2:].reshape(-1, 3)]).astype(np.float64)
    red, _, blue = np.median(border, axis=0)
    return float(blue - red)


def _hatch_share(picture: Picture) -> float:
    height, width = (length // _BLOCK * _BLOCK for length in picture.shape[:2])
    pixels = picture[:height, :width].astype(np.float64)
    spectrum = np.square(np.abs(np.fft.fft2(pixels, axes=(0, 1)))).sum(axis=2)
    y, x = height // _BLOCK, width // _BLOCK
    along, across = spectrum[y, x], spectrum[y, -x]
    return float(along / (along + across + 1e-6) * along / spectrum[1:].sum())


STATISTICS = {
    "outline": Statistic("share of the filled shapes' mean depth below a border that is missing", _hollowness, 0.05),
    "pixelated": Statistic("share of the variance that lies between blocks of 8 pixels", _blockiness, 0.91),
    "night": Statistic("blue less red of the border's colour, of 255", _blueness, 20.0),
    "hatching": Statistic("power of the diagonal wave of 8 pixels", _hatch_share, 0.0003),
}
