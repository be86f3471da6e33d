"""Bar charts as pictures."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from PIL import Image

from benchmarks.pen import FAINT, INK, Pen, measure_text

Groups = Mapping[str, Mapping[str, float | None]]
"""Group of bars ▶ series ▶ value, None where there is none."""

PANEL_WIDTH, MARGIN, LABELS, VALUES = 480, 24, 76, 70
BAR, GAP, LINE = 16, 12, 22
LEGEND, KEY = 13, 20  # the size of its names, and what its colours take
COLOURS = ("#b8b8b8", "#7a9cc6", "#d1495b", "#66a182", "#edae49", "#6d597a", "#404040")  # then they begin anew


def draw_chart(title: str, subtitle: str, series: Sequence[str], panels: Mapping[str, Groups]) -> Image.Image:
    """Draw panels two in a row, each with a horizontal bar for each series in each group; shorter is better.

    `panels` by title. Each panel has its own scale, from 0; a value that is None leaves its place empty.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    height_of_panel = max(_panel_height(groups, len(series)) for groups in panels.values())
    width = columns * (PANEL_WIDTH + MARGIN) + MARGIN
    places = _place_legend(series, width - MARGIN)
    top = MARGIN + (3 + max((line for _, line in places), default=0)) * LINE + MARGIN
    pen = Pen(width, top + rows * (height_of_panel + MARGIN))
    pen.write(MARGIN, MARGIN, title, INK, 18)
    pen.write(MARGIN, MARGIN + LINE + 2, subtitle, FAINT, 12)
    for colour, name, (left, line) in zip(cycle(COLOURS), series, places, strict=False):
        y = MARGIN + (2 + line) * LINE + 4
        pen.fill(left, y + 2, 14, 14, colour)
        pen.write(left + KEY, y, name, INK, LEGEND)
    for index, (name, groups) in enumerate(panels.items()):
        x = MARGIN + index % columns * (PANEL_WIDTH + MARGIN)
        _draw_panel(pen, x, top + index // columns * (height_of_panel + MARGIN), name, series, groups)
    return pen.picture


def _place_legend(series: Sequence[str], right: float) -> list[tuple[float, int]]:
    """Where each name's key begins and in which line, from 0; a line ends before `right`."""
    places: list[tuple[float, int]] = []
    left, line = float(MARGIN), 0
    for name in series:
        width = KEY + measure_text(name, LEGEND)
        if left > MARGIN and left + width > right:
            left, line = float(MARGIN), line + 1
        places.append((left, line))
        left += width + MARGIN
    return places


def _draw_panel(pen: Pen, x: int, y: int, name: str, series: Sequence[str], groups: Groups) -> None:
    pen.write(x, y, name, INK, 15)
    y += LINE + 6
    largest = max((value for group in groups.values() for value in group.values() if value is not None), default=1.0)
    room = PANEL_WIDTH - LABELS - VALUES
    for label, values in groups.items():
        pen.write(x, y + (BAR * len(series) - LINE) // 2, label, INK, 13)
        for colour, one in zip(cycle(COLOURS), series, strict=False):
            value = values.get(one)
            if value is not None:
                length = room * value / (largest or 1.0)
                pen.fill(x + LABELS, y + 1, length, BAR - 2, colour)
                pen.write(x + LABELS + length + 6, y, f"{value:.3g}" if value < 1000 else f"{value:.0f}", INK, 12)
            y += BAR
        y += GAP


def _panel_height(groups: Groups, series: int) -> int:
    return LINE + 6 + len(groups) * (BAR * series + GAP)
