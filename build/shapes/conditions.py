"""The ControlNets' reference images, made from any picture; Pillow alone, so that a client can make them.

`edges` is for the ControlNet of that name and `layout` for the other one.
"""

from PIL import Image, ImageChops, ImageFilter

EDGE_WINDOW = 5  # pixels: a stroke covers two pixels on either side of a border
EDGE_CONTRAST = 51  # of 255: how far any channel must range inside the window
LAYOUT_BLOCK = 16  # pixels


def edges(picture: Image.Image) -> Image.Image:
    """White strokes along the borders of the picture's areas, on black; RGB of the same size."""
    picture = picture.convert("RGB")
    brightest = picture.filter(ImageFilter.MaxFilter(EDGE_WINDOW))
    darkest = picture.filter(ImageFilter.MinFilter(EDGE_WINDOW))
    red, green, blue = ImageChops.difference(brightest, darkest).split()
    contrast = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return contrast.point(lambda value: 255 if value > EDGE_CONTRAST else 0).convert("RGB")


def layout(picture: Image.Image) -> Image.Image:
    """The mean colour of each block of 16 by 16 pixels; RGB of the same size.

    Raises ValueError where the size is not a multiple of 16.
    """
    if picture.width % LAYOUT_BLOCK or picture.height % LAYOUT_BLOCK:
        raise ValueError(f"picture is {picture.width} x {picture.height}, not a multiple of {LAYOUT_BLOCK}")
    coarse = (picture.width // LAYOUT_BLOCK, picture.height // LAYOUT_BLOCK)
    blocks = picture.convert("RGB").resize(coarse, Image.Resampling.BOX)
    return blocks.resize(picture.size, Image.Resampling.NEAREST)
