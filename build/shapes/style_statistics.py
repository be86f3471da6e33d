"""One number a style that tells its pictures from plain ones, and where the line between them lies."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from shapes.judge import Picture, foreground

_BLOCK = 8  # pixels, as in the pixelated and the hatched style


@dataclass(frozen=True)
class Statistic:
    """A picture has the style where `measure` gives more than `threshold`."""

    description: str
    measure: Callable[[Picture], float]
    threshold: float

    def shows_style(self, picture: Picture) -> bool:
        """Whether the picture, uint8 [h, w, 3], is on the style's side of the line."""
        return self.measure(picture) > self.threshold


def _thinness(picture: Picture) -> float:
    drawn = foreground(picture)
    depth = ndimage.distance_transform_edt(drawn) * 128 / picture.shape[1]
    return float(-depth[drawn].mean()) if drawn.any() else -np.inf


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
    "outline": Statistic("less the mean depth below a border, in pixels at a side of 128", _thinness, -2.3),
    "pixelated": Statistic("share of the variance that lies between blocks of 8 pixels", _blockiness, 0.91),
    "night": Statistic("blue less red of the border's colour, of 255", _blueness, 20.0),
    "hatching": Statistic("power of the diagonal wave of 8 pixels", _hatch_share, 0.0003),
}
