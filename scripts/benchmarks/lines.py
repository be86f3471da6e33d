"""Line plots as pictures."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Name ▶ points (x, y), x rising."""

SCALE = 2  # pixels a unit, for sharp text
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 300, 56, 130, 56, 48
TICKS = 5
PAPER, INK, FAINT, GRID = "white", "#202020", "#808080", "#e4e4e4"
COLOURS = ("#d1495b", "#7a9cc6", "#66a182", "#edae49", "#6d597a", "#404040", "#b8b8b8")


def draw_lines(
    title: str, x_label: str, series: Series, y_range: tuple[float, float], mark: float | None = None
) -> Image.Image:
    """Draw the series over one another, each named at its end; `mark` is an x with a vertical line."""
    picture = Image.new("RGB", (SCALE * (LEFT + WIDTH + RIGHT), SCALE * (TOP + HEIGHT + BOTTOM)), PAPER)
    pen = ImageDraw.Draw(picture)
    xs = [x for points in series.values() for x, _ in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = y_range

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (min(max(y, y_low), y_high) - y_low) / (y_high - y_low)
        return SCALE * (LEFT + WIDTH * across), SCALE * (TOP + HEIGHT * (1 - up))

    def write(x: float, y: float, text: str, colour: str, size: int, anchor: str) -> None:
        pen.text((x, y), text, colour, ImageFont.load_default(SCALE * size), anchor=anchor)

    write(SCALE * LEFT, SCALE * 22, title, INK, 16, "lm")
    for tick in range(TICKS + 1):
        y = y_low + (y_high - y_low) * tick / TICKS
        x = x_low + (x_high - x_low) * tick / TICKS
        pen.line([place(x_low, y), place(x_high, y)], GRID, SCALE)
        write(place(x_low, y)[0] - SCALE * 8, place(x_low, y)[1], f"{y:.3g}", FAINT, 11, "rm")
        write(place(x, y_low)[0], place(x, y_low)[1] + SCALE * 14, f"{x:.3g}", FAINT, 11, "mm")
    write(*_shift(place((x_low + x_high) / 2, y_low), 34), x_label, FAINT, 12, "mm")
    if mark is not None:
        pen.line([place(mark, y_low), place(mark, y_high)], FAINT, SCALE)
    for place_in_list, (name, points) in enumerate(series.items()):
        colour = COLOURS[place_in_list % len(COLOURS)]
        pen.line([place(*point) for point in points], colour, 2 * SCALE, joint="curve")
        x, _ = place(*points[-1])
        # names one under the other: where lines end together theirs would lie on one another
        write(x + SCALE * 10, SCALE * (TOP + 10 + 18 * place_in_list), name, colour, 12, "lm")
    return picture


def _shift(point: tuple[float, float], down: float) -> tuple[float, float]:
    return point[0], point[1] + SCALE * down
