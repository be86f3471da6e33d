"""Scenes drawn by hand, without torch: to make a ControlNet's reference image in a client."""

from dataclasses import dataclass

from PIL import Image, ImageDraw

from shapes.geometry import BACKGROUNDS, COLOURS, polygon

_OVERSAMPLING = 4


@dataclass(frozen=True)
class Figure:
    """One shape; `x`, `y` and `radius` are fractions of the canvas's side, y downwards."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float


def draw(figures: list[Figure], background: str = "white", side: int = 128) -> Image.Image:
    """An RGB picture of side by side pixels with smooth borders; later figures lie on top.

    Raises KeyError for a shape, colour or background that geometry does not name.
    """
    scale = side * _OVERSAMPLING
    canvas = Image.new("RGB", (scale, scale), BACKGROUNDS[background])
    pen = ImageDraw.Draw(canvas)
    for figure in figures:
        corners = (polygon(figure.shape) * figure.radius + (figure.x, figure.y)) * scale
        pen.polygon([(x, y) for x, y in corners], fill=COLOURS[figure.colour])
    return canvas.resize((side, side), Image.Resampling.BOX)
