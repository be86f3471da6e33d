"""Bar charts as pictures."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

Groups = Mapping[str, Mapping[str, float | None]]
"""Group of bars ▶ series ▶ value, None where there is none."""

SCALE = 2  # pixels a unit, for sharp text
PANEL_WIDTH, MARGIN, LABELS, VALUES = 480, 24, 76, 70
BAR, GAP, LINE = 16, 12, 22
PAPER, INK, FAINT = "white", "#202020", "#909090"
COLOURS = ("#b8b8b8", "#7a9cc6", "#d1495b", "#66a182", "#edae49", "#6d597a")


def draw_chart(title: str, subtitle: str, series: Sequence[str], panels: Mapping[str, Groups]) -> Image.Image:
    """Draw panels two in a row, each with a horizontal bar for each series in each group; shorter is better.

    `panels` by title. Each panel has its own scale, from 0; a value that is None leaves its place empty.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    height_of_panel = max(_panel_height(groups, len(series)) for groups in panels.values())
    top = MARGIN + 3 * LINE + MARGIN
    canvas = Image.new(
        "RGB",
        (SCALE * (columns * (PANEL_WIDTH + MARGIN) + MARGIN), SCALE * (top + rows * (height_of_panel + MARGIN))),
        PAPER,
    )
    pen = _Pen(canvas)
    pen.write(MARGIN, MARGIN, title, INK, 18)
    pen.write(MARGIN, MARGIN + LINE + 2, subtitle, FAINT, 12)
    left: float = MARGIN
    for colour, name in zip(COLOURS, series, strict=False):
        pen.fill(left, MARGIN + 2 * LINE + 6, 14, 14, colour)
        left += 20 + pen.write(left + 20, MARGIN + 2 * LINE + 4, name, INK, 13) + MARGIN
    for index, (name, groups) in enumerate(panels.items()):
        x = MARGIN + index % columns * (PANEL_WIDTH + MARGIN)
        _draw_panel(pen, x, top + index // columns * (height_of_panel + MARGIN), name, series, groups)
    return canvas


def _draw_panel(pen: "_Pen", x: int, y: int, name: str, series: Sequence[str], groups: Groups) -> None:
    pen.write(x, y, name, INK, 15)
    y += LINE + 6
    largest = max((value for group in groups.values() for value in group.values() if value is not None), default=1.0)
    room = PANEL_WIDTH - LABELS - VALUES
    for label, values in groups.items():
        pen.write(x, y + (BAR * len(series) - LINE) // 2, label, INK, 13)
        for colour, one in zip(COLOURS, series, strict=False):
            value = values.get(one)
            if value is not None:
                length = room * value / (largest or 1.0)
                pen.fill(x + LABELS, y + 1, length, BAR - 2, colour)
                pen.write(x + LABELS + length + 6, y, f"{value:.3g}" if value < 1000 else f"{value:.0f}", INK, 12)
            y += BAR
        y += GAP


def _panel_height(groups: Groups, series: int) -> int:
    return LINE + 6 + len(groups) * (BAR * series + GAP)


class _Pen:
    """Draws in units of `SCALE` pixels."""

    def __init__(self, canvas: Image.Image) -> None:
        self._pen = ImageDraw.Draw(canvas)

    def write(self, x: float, y: float, text: str, colour: str, size: int) -> float:
        """Write one line and give its width."""
        font = ImageFont.load_default(SCALE * size)
        self._pen.text((SCALE * x, SCALE * y), text, colour, font)
        return self._pen.textlength(text, font) / SCALE

    def fill(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fill a rectangle, at least one pixel wide."""
        right = max(SCALE * (x + width), SCALE * x + 1)
        self._pen.rectangle((SCALE * x, SCALE * y, right, SCALE * (y + height)), colour)
