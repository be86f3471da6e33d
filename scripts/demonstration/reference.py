"""The reference image that a ControlNet follows."""

from pathlib import Path

from PIL import Image

from launch.problems import LaunchError
from shapes import conditions
from shapes.drawing import Figure, draw

DEFAULT_PROMPT = "a large red heart left of a small blue star on a white background"
# The same scene, but placed as no prompt could ask for.
FIGURES = [Figure("heart", "red", x=0.34, y=0.68, radius=0.18), Figure("star", "blue", x=0.76, y=0.2, radius=0.11)]

CONDITIONS = {"edges": conditions.edges, "layout": conditions.layout}


def make_reference(controlnet: str, file: Path | None) -> Image.Image:
    """Take the image from `file`, or draw the one that suits a ControlNet of ours; raises `LaunchError` if neither."""
    if file:
        try:
            return Image.open(file).convert("RGB")
        except OSError as error:
            raise LaunchError(f"--control-image {file} cannot be read as a picture: {error}.") from error
    if controlnet not in CONDITIONS:
        raise LaunchError(
            f"No reference image is known for the ControlNet {controlnet!r}, only for {' and '.join(CONDITIONS)}: "
            "name a picture with --control-image."
        )
    return CONDITIONS[controlnet](draw(FIGURES))
