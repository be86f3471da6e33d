"""Pictures in and out: reference images decoded, results encoded with the request inside."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.request.codec_threads import codec_threads
from swiftdiffusion.request.jpeg import write_jpeg
from swiftdiffusion.request.png import write_png

READABLE = ("PNG", "JPEG", "WEBP")
PIXELS_MAX = 40_000_000  # a small file can announce a picture that fills the memory


def decode_references(files: Mapping[str, bytes], width: int, height: int) -> list[Future[NDArray[np.uint8]]]:
    """Begin to decode ControlNets' reference images, at the same time, and to fit them to the picture.

    Args:
        files: PNG, JPEG or WebP, by the input's name and place, for messages.
        width: of the picture asked for, pixels.
        height: of the picture asked for, pixels.

    Returns:
        For each, later, uint8 [height, width, 3], or `InvalidArgument` where its data are broken.

    Raises:
        InvalidArgument: what has not such a file's head, or more than `PIXELS_MAX` pixels.
    """
    opened = [(_open_reference(data, label), label, len(data)) for label, data in files.items()]
    return [codec_threads().submit(_decode_reference, *file, width, height) for file in opened]


def _open_reference(data: bytes, label: str) -> Image.Image:
    with _broken_refused(label, len(data)):
        image = Image.open(io.BytesIO(data), formats=READABLE)
    if image.width * image.height > PIXELS_MAX:
        raise InvalidArgument(f"{label} has {image.width}x{image.height} pixels; at most {PIXELS_MAX} are read")
    return image


def _decode_reference(image: Image.Image, label: str, size: int, width: int, height: int) -> NDArray[np.uint8]:
    with _broken_refused(label, size), image:
        picture = image.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)  # as diffusers does
    return np.array(picture)  # asarray's cannot be written to, of which torch warns


@contextmanager
def _broken_refused(label: str, size: int) -> Iterator[None]:
    try:
        yield
    # a broken file makes Pillow raise almost anything: SyntaxError, struct.error, ValueError, EOFError
    except Exception:
        raise InvalidArgument(f"{label} ({size} bytes) is not a whole PNG, JPEG or WebP picture") from None


def decode_base64(data: bytes, label: str) -> bytes:
    """Undo base64 strictly; `label` names the input in the message."""
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise InvalidArgument(f"{label} is not base64, which the input base64 = true announces") from None


def encode_png(pixels: NDArray[np.uint8], request: dict[str, Any]) -> bytes:
    """A PNG with the request in its text chunk ``swiftdiffusion``."""
    return write_png(pixels, ("swiftdiffusion", json.dumps(request, ensure_ascii=False)))


def encode_jpeg(pixels: NDArray[np.uint8], request: dict[str, Any]) -> bytes:
    """A JPEG with the request in its EXIF user comment."""
    return write_jpeg(pixels, 95, _exif(request))


def encode_webp(pixels: NDArray[np.uint8], request: dict[str, Any]) -> bytes:
    """A WebP with the request in its EXIF user comment."""
    return _save(Image.fromarray(pixels), "WEBP", quality=95, exif=_exif(request))


ENCODERS: dict[str, Callable[[NDArray[np.uint8], dict[str, Any]], bytes]] = {
    "png": encode_png,
    "jpeg": encode_jpeg,
    "webp": encode_webp,
}
OUTPUT_FORMATS = (*ENCODERS, "raw")


def encode_preview(pixels: NDArray[np.uint8], longest: int = 96) -> bytes:
    """A small JPEG of uint8 [height, width, 3]; its longer side is at most `longest` pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((longest, longest))
    return _save(picture, "JPEG", quality=80)


def _exif(request: dict[str, Any]) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + json.dumps(request).encode()
    return exif


def _save(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()
