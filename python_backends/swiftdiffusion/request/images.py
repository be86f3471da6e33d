"""Pictures in and out: reference images decoded, results encoded with the request inside."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from functools import partial
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


def decode_references(files: Mapping[str, bytes], width: int, height: int) -> list[NDArray[np.uint8]]:
    """`decode_reference` of each of the files, which are named by their labels, at the same time."""
    decode = partial(decode_reference, width=width, height=height)
    return list(codec_threads().map(decode, files.values(), files))


def decode_reference(data: bytes, label: str, width: int, height: int) -> NDArray[np.uint8]:
    """Decode a ControlNet's reference image and fit it to the picture as diffusers does (Lanczos).

    Args:
        data: a PNG, JPEG or WebP file.
        label: the input's name and place, for messages.
        width: of the picture asked for, pixels.
        height: of the picture asked for, pixels.

    Returns:
        uint8 [height, width, 3].

    Raises:
        InvalidArgument: not such a file, broken, or more than `PIXELS_MAX` pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=READABLE) as image:
            if image.width * image.height > PIXELS_MAX:
                raise InvalidArgument(f"{label} has {image.width}x{image.height} pixels; at most {PIXELS_MAX} are read")
            picture = image.convert("RGB")
    except InvalidArgument:
        raise
    # a broken file makes Pillow raise almost anything: SyntaxError, struct.error, ValueError, EOFError
    except Exception:
        raise InvalidArgument(f"{label} ({len(data)} bytes) is not a whole PNG, JPEG or WebP picture") from None
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture)


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
