"""Line plots as pictures."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image

from benchmarks.pen import FAINT, GRID, INK, Pen, measure_text

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Name ▶ points (x, y), x rising."""

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 520, 300, 56, 56, 48
NAME, BESIDE = 12, 12  # the size of the names, and what is left free on each side of them
TICKS = 5
COLOURS = ("#d1495b", "#7a9cc6", "#66a182", "#edae49", "#6d597a", "#404040", "#b8b8b8")


def draw_lines(
    title: str,
    x_label: str,
    series: Series,
    y_range: tuple[float, float],
    mark: float | None = None,
    logarithmic: bool = False,
) -> Image.Image:
    """Draw the series over one another, their names beside them.

    Args:
        title: above them.
        x_label: below them.
        series: at least one point.
        y_range: what is shown; above 0 and as far as the next tick where it is logarithmic.
        mark: an x with a vertical line.
        logarithmic: whether equal heights are equal ratios.
    """
    right = 2 * BESIDE + max(measure_text(name, NAME) for name in series)
    pen = Pen(LEFT + WIDTH + right, TOP + HEIGHT + BOTTOM)
    xs = [x for points in series.values() for x, _ in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    ticks = _find_ratios(*y_range) if logarithmic else _find_steps(*y_range)
    y_low, y_high = ticks[0], ticks[-1]
    rise = math.log if logarithmic else float

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (rise(min(max(y, y_low), y_high)) - rise(y_low)) / (rise(y_high) - rise(y_low))
        return LEFT + WIDTH * across, TOP + HEIGHT * (1 - up)

    pen.write(LEFT, 22, title, INK, 16, "lm")
    for tick in ticks:
        left, end = place(x_low, tick), place(x_high, tick)
        pen.join([left, end], GRID)
        pen.write(left[0] - 8, left[1], f"{tick:.3g}", FAINT, 11, "rm")
    for x in _find_steps(x_low, x_high):
        pen.write(place(x, y_low)[0], TOP + HEIGHT + 14, f"{x:.3g}", FAINT, 11, "mm")
    pen.write(LEFT + WIDTH / 2, TOP + HEIGHT + 34, x_label, FAINT, 12, "mm")
    if mark is not None:
        pen.join([place(mark, y_low), place(mark, y_high)], FAINT)
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(*point) for point in points]
        pen.join(places, colour, 2)
        for point in places:
            pen.dot(*point, colour, 3)
        # one under the other: where lines end together names at their ends would lie on one another
        pen.write(LEFT + WIDTH + BESIDE, TOP + 10 + 18 * number, name, colour, NAME, "lm")
    return pen.picture


def _find_steps(low: float, high: float) -> list[float]:
    """`TICKS` equal steps from one to the other."""
    return [low + (high - low) * tick / TICKS for tick in range(TICKS + 1)]


def _find_ratios(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten, from the last up to `low` to the first from `high` on, two at least."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    ratios = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    first = max(place for place, ratio in enumerate(ratios) if ratio <= low)
    last = min(place for place, ratio in enumerate(ratios) if ratio >= high)
    return ratios[first : max(last, first + 1) + 1]
