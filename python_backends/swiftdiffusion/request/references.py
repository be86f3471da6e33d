"""ControlNets' reference images: their heads are checked with the request, their data decoded while it is drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.request.codec_threads import codec_threads

READABLE = ("PNG", "JPEG", "WEBP")
PIXELS_MAX = 40_000_000  # a small file can announce a picture that fills the memory


@dataclass(frozen=True, eq=False)
class Reference:
    """A picture file whose head is good.

    Raises:
        InvalidArgument: what has not a PNG's, JPEG's or WebP's head, or more than `PIXELS_MAX` pixels.
    """

    file: bytes
    label: str  # the input's name and place, for messages
    width: int  # of the picture asked for, pixels
    height: int

    def __post_init__(self) -> None:
        with self._open() as image:
            width, height = image.size
        if width * height > PIXELS_MAX:
            raise InvalidArgument(f"{self.label} has {width}x{height} pixels; at most {PIXELS_MAX} are read")

    def decode(self) -> NDArray[np.uint8]:
        """The picture, fitted to the one asked for: uint8 [height, width, 3].

        Raises:
            InvalidArgument: its data are broken.
        """
        with self._open() as image:
            if image.mode.startswith("I"):  # grey of 16 bits, as depth maps are, of which `convert` makes white
                picture = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            else:
                picture = image.convert("RGB")
        if picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), Image.Resampling.LANCZOS)  # as diffusers does
        return np.array(picture)  # asarray's cannot be written to, of which torch warns

    @contextmanager
    def _open(self) -> Iterator[Image.Image]:
        try:
            with Image.open(io.BytesIO(self.file), formats=READABLE) as image:
                yield image
        # a broken file makes Pillow raise almost anything: SyntaxError, struct.error, ValueError, EOFError
        except Exception:
            message = f"{self.label} ({len(self.file)} bytes) is not a whole PNG, JPEG or WebP picture"
            raise InvalidArgument(message) from None


Images = Mapping[Reference, Future[NDArray[np.uint8]]]  # what `Reference.decode` gives of each, or raises


@contextmanager
def begin_decoding(references: Iterable[Reference]) -> Iterator[Images]:
    """Decode references at the same time, beside what the caller does; what has not begun at the end never does."""
    images = {reference: codec_threads().submit(reference.decode) for reference in references}
    try:
        yield images
    finally:
        for image in images.values():
            image.cancel()


def decode_base64(data: bytes, label: str) -> bytes:
    """Undo base64 strictly; `label` names the input in the message."""
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise InvalidArgument(f"{label} is not base64, which the input base64 = true announces") from None
