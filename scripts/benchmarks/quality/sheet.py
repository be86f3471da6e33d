"""The same pictures as each shortcut draws them, for the eye."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from benchmarks.quality.subjects import SETS, SIDE, Picture

COLUMNS = 2  # pictures of each set
LABEL, GAP, LINE, HEAD = 190, 6, 16, 28  # pixels
LETTERS = 28  # of a label's line
PAPER, INK = "white", "#202020"


def draw_sheet(drawn: Mapping[str, Mapping[str, Sequence[Picture]]]) -> Image.Image:
    """A row for each label with the first pictures of each set; what a way has not drawn stays empty.

    `drawn` has uint8 [128, 128, 3] by label and set.
    """
    step = SIDE + GAP
    sheet = Image.new("RGB", (LABEL + len(SETS) * (COLUMNS * step + GAP), HEAD + len(drawn) * step), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, kind in enumerate(SETS):
        left = LABEL + place * (COLUMNS * step + GAP)
        pen.text((left, 6), kind, INK, font)
        for row, pictures in enumerate(drawn.values()):
            for column, picture in enumerate(pictures.get(kind, ())[:COLUMNS]):
                sheet.paste(Image.fromarray(picture), (left + column * step, HEAD + row * step))
    for row, label in enumerate(drawn):
        for line, text in enumerate(textwrap.wrap(label, LETTERS)):
            pen.text((GAP, HEAD + row * step + line * LINE), text, INK, font)
    return sheet
