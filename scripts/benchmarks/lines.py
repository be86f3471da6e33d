"""Line plots as pictures."""

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
    title: str, x_label: str, series: Series, y_range: tuple[float, float], mark: float | None = None
) -> Image.Image:
    """Draw the series over one another, their names beside them; `mark` is an x with a vertical line."""
    right = 2 * BESIDE + max(measure_text(name, NAME) for name in series)
    pen = Pen(LEFT + WIDTH + right, TOP + HEIGHT + BOTTOM)
    xs = [x for points in series.values() for x, _ in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = y_range

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (min(max(y, y_low), y_high) - y_low) / (y_high - y_low)
        return LEFT + WIDTH * across, TOP + HEIGHT * (1 - up)

    pen.write(LEFT, 22, title, INK, 16, "lm")
    for tick in range(TICKS + 1):
        (left, y), (end, _) = (place(x, y_low + (y_high - y_low) * tick / TICKS) for x in (x_low, x_high))
        pen.join([(left, y), (end, y)], GRID)
        pen.write(left - 8, y, f"{y_low + (y_high - y_low) * tick / TICKS:.3g}", FAINT, 11, "rm")
        x = x_low + (x_high - x_low) * tick / TICKS
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
