"""Pictures side by side, each with a line that says what it shows."""

from collections.abc import Mapping
from textwrap import fill

from PIL import Image, ImageDraw, ImageFont

TILE = 256  # pixels a side, at least: small pictures are enlarged by whole factors
MARGIN = 16
FONT_SIZE = 16
LINE = 22
CHARACTER = 8.5  # a character's width at that size, on average
PAPER, INK = "white", "#202020"


def make_sheet(title: str, pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Lay the pictures out in a row, the label of each above it and the title on top."""
    tiles = {label: _enlarge(picture) for label, picture in pictures.items()}
    width = sum(tile.width + MARGIN for tile in tiles.values()) + MARGIN
    title = fill(title, int((width - 2 * MARGIN) / CHARACTER))
    labels_at = MARGIN + LINE * (title.count("\n") + 1) + MARGIN // 2
    tiles_at = labels_at + LINE * max(label.count("\n") + 1 for label in tiles) + MARGIN // 4
    height = tiles_at + max(tile.height for tile in tiles.values()) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    pen.multiline_text((MARGIN, MARGIN), title, INK, font)
    left = MARGIN
    for label, tile in tiles.items():
        pen.multiline_text((left, labels_at), label, INK, font)
        sheet.paste(tile, (left, tiles_at))
        pen.rectangle((left - 1, tiles_at - 1, left + tile.width, tiles_at + tile.height), outline="#c0c0c0")
        left += tile.width + MARGIN
    return sheet


def _enlarge(picture: Image.Image) -> Image.Image:
    factor = max(1, TILE // picture.width)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
